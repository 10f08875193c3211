"""Activations of dense layers by name, without importing torch."""

ACTIVATIONS = {
    "linear": "Identity",
    "relu": "ReLU",
    "tanh": "Tanh",
    "elu": "ELU",
    "sigmoid": "Sigmoid",
}  # names in torch.nn
