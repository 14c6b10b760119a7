"""What a run shows while it goes on: a line for each step, and on a terminal a live display."""
