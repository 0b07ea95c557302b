"""What `python -m benchmarks.gpu` measures on one device, a card or, to try the code, a CPU.

bench.py     the model, its prompts, the peer, and the clock that waits for the device
exact.py     whether the numbers are right: against transformers, the dense pass, themselves
speed.py     the forward pass and the sweeps, against torch hooks on transformers
scaling.py   the same as rows grow
waits.py     how often the host waits for the device, how many kernels it starts, and where
report.py    tables, as Markdown and as JSON lines, written as far as they are done
"""
