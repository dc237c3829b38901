"""Array primitives without parameters: plain twins in Jittor ops, fused twins with one kernel body
for CPU and CUDA."""
