"""Other tools as contenders: each runs in a process of its own, in its own environment, on the same
weights and tokens.

    client.py      the benchmark's side: starts a worker, sends it workloads, gets seconds and
                   numbers back
    worker.py      the worker's side, the same for every peer
    inputs.py      what every workload is given, and the metric that every one returns
    hooks.py tl2.py tl4.py nnsight_.py     one file a peer: `load`, and its WORKLOADS by name
    check.py       whether the peers compute the same numbers

A workload is a function of (model, inputs) that prepares what the method computes once (cached
runs) and returns a function; calling that gives the numbers. Both parts are timed, apart, so that
the time of a sample scales up to the whole.

    hooks tl2      w3_out         sender heads > the output at the last position, others frozen
    hooks tl2      w3_v           sender heads > the values of some later heads at one position
    hooks          w3_q w3_k      sender heads > their queries or keys
    tl2            w3_*_paper     w3_out, w3_v to the letter of the paper: two passes a sender
    hooks tl2      w3_*_frozen    along the direct edges alone (the edge meaning; tl2: out and v)
    hooks tl2      heads_by_pos   denoising by heads, each at all positions at once
    hooks tl2      w1_edges       one edge a pass, LayerNorm recomputed
    tl4            tl4_head_q     TransformerLens 4.3's own sweep of head > query edges
    hooks tl2      w4_neurons     total effect of neurons of one MLP, one a pass
    hooks tl2 tl4 nnsight         w5_cache: one forward pass that keeps the activations
"""
