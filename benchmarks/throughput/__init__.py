"""What the benchmark of training steps is made of.

``ours``: our steps; ``graph_pes_steps``, ``kgcnn_steps``: those of peers, run by their
own interpreters; ``serving``: what these processes have in common; ``contestant``: the
other end; ``floor``: operations and bytes of a step, and where its time goes.
"""
