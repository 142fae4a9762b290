"""EM on PyTorch Lightning: the only package that imports it, in the modules that need it."""
