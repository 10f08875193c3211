"""Overlapping patches of image tensors: cutting, batching and averaging."""

import itertools
import math

import torch


def patch_corners(size, patch_size, stride):
    """Return the corners (top, left) of evenly spread patches that cover an image, at most `stride` pixels apart.

    >>> patch_corners((5, 8), 4, 3)
    [(0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (1, 4)]
    """
    axes = []
    for side in size:
        room = side - patch_size
        n_steps = math.ceil(room / stride)
        axes.append([round(i * room / max(n_steps, 1)) for i in range(n_steps + 1)])
    return list(itertools.product(*axes))


def split_patches(x, corners, patch_size):
    """Return the patches of images (n, C, H, W), image by image: (n * n_patches, C, p, p)."""
    patches = [x[:, :, top : top + patch_size, left : left + patch_size] for top, left in corners]
    return torch.stack(patches, dim=1).flatten(0, 1)


def average_patches(patches, corners, size):
    """Return images (n, ..., H, W) from patches in the order of `split_patches`, averaged where they overlap."""
    patches = patches.unflatten(0, (-1, len(corners)))
    patch_size = patches.shape[-1]
    total = patches.new_zeros((len(patches), *patches.shape[2:-2], *size))
    count = patches.new_zeros(size)
    for i, (top, left) in enumerate(corners):
        rows, columns = slice(top, top + patch_size), slice(left, left + patch_size)
        total[..., rows, columns] += patches[:, i]
        count[rows, columns] += 1
    return total / count


class PatchSamples:
    """Patches of images (n, C, H, W) as training samples, which are cut when a batch needs them."""

    def __init__(self, images, corners, patch_size):
        self.images, self.corners, self.patch_size = images, corners, patch_size

    def __len__(self):
        return len(self.images) * len(self.corners)

    def __getitem__(self, indices):
        """Return the patches at a LongTensor: (len(indices), C, p, p)."""
        p, patches = self.patch_size, []
        for index in indices.tolist():
            image, place = divmod(index, len(self.corners))
            top, left = self.corners[place]
            patches.append(self.images[image, :, top : top + p, left : left + p])
        return torch.stack(patches)
