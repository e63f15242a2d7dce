"""The notebook's network in C++ for CPUs: the same mathematics as `model.NotebookNetwork`, without the zeros.

Behind max-pooling three of four gradients are zero, and behind ReLU most of the rest; the library computes only what is
left. `build` compiles it on first use, `bindings` calls it, `kernel_backend` trains a fleet with it.
"""
