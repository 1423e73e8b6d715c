"""Numerical building blocks of the StyleGAN networks, each specified by a plain PyTorch function."""
