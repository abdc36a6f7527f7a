"""sartor beside other tools: the same networks, the same images, one machine, one build of torch.

`benchmarks/bench_peers.py` measures; `make bench-peers` makes the environment for it first.
"""
