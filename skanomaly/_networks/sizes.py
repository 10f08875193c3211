"""Sizes of images that a network accepts."""


def patch_shape(module):
    """Return the height and width of the patches that a timm model cuts images into, (1, 1) if it is convolutional."""
    from timm.layers import PatchEmbed  # slow to import

    embedding = getattr(module, "patch_embed", None)
    return tuple(embedding.patch_size) if isinstance(embedding, PatchEmbed) else (1, 1)


def check_size(module, name, size, parameter):
    """Raise if a network is known not to accept images of a size.

    Parameters
    ----------
    module : Module
        A timm model.
    name : str
        Name of the model, for messages.
    size : tuple of int (H, W)
        Size of the images, in pixels.
    parameter : str
        Name of the parameter that sets the size, for messages.

    Raises
    ------
    ValueError
        If the size is not accepted; the message says which sizes are.
    """
    embedding, patch = getattr(module, "patch_embed", None), patch_shape(module)
    if getattr(embedding, "strict_img_size", False) and tuple(size) != tuple(embedding.img_size):
        raise ValueError(
            f"{parameter}={tuple(size)} is not accepted by {name!r}: its images must have the size "
            f"{tuple(embedding.img_size)}."
        )
    if any(n % step for n, step in zip(size, patch, strict=True)):
        raise ValueError(
            f"{parameter}={tuple(size)} is not divisible by the {patch[0]} x {patch[1]} patches of {name!r}; nearest "
            f"accepted: {' or '.join(map(str, _nearest(size, patch)))}."
        )


def _nearest(size, patch):
    """Return the next smaller and the next larger size that patches divide."""
    smaller = tuple(n // step * step for n, step in zip(size, patch, strict=True))
    larger = tuple(-(-n // step) * step for n, step in zip(size, patch, strict=True))
    return [smaller, larger] if min(smaller) else [larger]
