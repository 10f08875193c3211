"""The activations of dense layers by name, without torch."""

ACTIVATIONS = {"linear": "Identity", "relu": "ReLU", "tanh": "Tanh", "elu": "ELU", "sigmoid": "Sigmoid"}  # in torch.nn
