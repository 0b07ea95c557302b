"""Throughput, side by side: each script times this project and a peer in alternation, in one
run."""
