"""Steps of graph-pes: python graph_pes_steps.py MODEL BATCHES.npz."""

import sys

import numpy as np
import torch
from graph_pes import AtomicGraph
from graph_pes.atomic_graph import to_batch
from graph_pes.models import PaiNN, SchNet
from serving import read_batches, serve

torch.set_num_threads(2)


def convert(b):
    graphs = []
    for s, cell in enumerate(b["cell"]):
        atoms = b["structure_index"] == s
        edges = atoms[b["edge_index"][0]]
        graphs.append(
            AtomicGraph(
                Z=torch.tensor(b["atomic_numbers"][atoms]).long(),
                R=torch.tensor(b["positions"][atoms]),
                cell=torch.tensor(cell),
                neighbour_list=torch.tensor(
                    b["edge_index"][:, edges] - np.flatnonzero(atoms)[0]
                ).long(),
                neighbour_cell_offsets=torch.tensor(b["edge_shift"][edges]),
                properties={},
                other={},
                cutoff=5.0,
            )
        )
    labels = {
        k: torch.tensor(b[k]).float()
        for k in ("energy", "energy_scale", "forces", "force_scale")
    }
    return graphs, to_batch(graphs), labels


def prepare(name, batches):
    torch.manual_seed(0)
    model = (
        SchNet(cutoff=5.0, channels=64, expansion_features=50, layers=3)
        if name == "SchNet"
        else PaiNN(cutoff=5.0, channels=64, radial_features=20, layers=3)
    )
    data = [convert(b) for b in batches]
    model.pre_fit_all_components([g for graphs, _, _ in data for g in graphs])
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step(batch):
        graph, label = batch
        optimizer.zero_grad()
        out = model.predict(graph, ["energy", "forces"])
        energy = (out["energy"] - label["energy"]) / label["energy_scale"]
        forces = (out["forces"] - label["forces"]) / label["force_scale"]
        loss = (energy**2).mean() + (forces**2).mean()
        loss.backward()
        optimizer.step()
        if not torch.isfinite(loss):
            raise FloatingPointError("The loss is not finite.")

    return step, [(graph, label) for _, graph, label in data]


if __name__ == "__main__":
    serve(*prepare(sys.argv[1], read_batches(sys.argv[2])))
