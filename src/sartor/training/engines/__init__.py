"""Engines: the ways to make the same updates.

updates     `with_engine`: a job with the engine that its settings name; compiled, and CUDA graphs
native      chains of layers, by the compiled module `sartor._native` (docs/native.md)
hardware    threads, memory format and precision; `ExecutionPlan`
race        measures which plan is fastest
"""
