"""Products on vector instructions of AVX2 and AVX-512, where a public call gains half or more.

The plain loops know nothing of this room; each of its kernels equals one of them bit for bit.
"""
