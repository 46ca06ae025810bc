"""What was found, and how well it fits."""
