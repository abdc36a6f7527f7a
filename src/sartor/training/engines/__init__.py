"""Engines: the ways to make one update.

updates     `update_for`: the update that a job's engine makes; the seam to the rest
direct      the passes of a chain of layers, without autograd
pooled      a first convolution and its pooling, as one; for `direct`
kernels     linear layers computed by oneDNN
scaling     gradient scaling, for float16
hardware    threads, memory format and precision; `ExecutionPlan`
race        measures which plan is fastest
"""
