"""Training steps of generative adversarial networks."""

import copy

import torch
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from .training import adam

_BETAS = 0.5, 0.999  # of Adam, after Radford et al.
_DECAY = 0.995  # of the moving average of the generator, once there are enough steps
_N_BATCHES, _BATCH = 20, 32  # number and size of the batches from which the statistics of batch norm are computed
_LARGEST_SHIFT = 8  # of images in front of the discriminator, as this fraction of their side
_N_ITERATIONS = 15  # of the power method, before the first step
_CUT = 2  # the largest rectangle that is cut out of them has this fraction of their side


class CodeStep:
    """Training step of a generator of images from codes, and of its discriminator, by the hinge loss.

    The discriminator has weights divided by their largest singular value and sees all images changed at random. Call
    `finish` after the last step.

    Parameters
    ----------
    gan : GAN
        Networks to train, on one device.
    draw : callable
        Function of a number that returns as many codes.
    generator : torch.Generator
        Generator of the random changes, on the CPU.
    lr : float
        Learning rate of Adam.
    weight_decay : float, default=0.0
        Weight decay of Adam.
    """

    def __init__(self, gan, draw, generator, *, lr, weight_decay=0.0):
        self.gan, self.draw, self.random = gan, draw, generator
        self.spectral = SpectralNorm(gan.discriminator, generator)
        self.averaged, self.n_steps = copy.deepcopy(gan.generator), 0
        self.optimizers = _optimizers(gan, lr, weight_decay)

    def __call__(self, x):
        """Update both networks with a batch of images; return their losses."""
        made = self.gan.generate(self.draw(len(x)))
        real, fake = self._judge(torch.cat([x, made.detach()])).chunk(2)
        loss_d = (functional.relu(1 - real) + functional.relu(1 + fake)).mean()
        _update(self.optimizers["discriminator"], loss_d)
        loss_g = -self._judge(made).mean()
        _update(self.optimizers["generator"], loss_g)
        self._average()
        return {"loss": loss_g.detach(), "discriminator_loss": loss_d.detach()}

    def finish(self):
        """Keep the averaged generator and the normalised discriminator."""
        with torch.no_grad():
            for name, weight in self.spectral.weights().items():
                self.gan.discriminator.get_parameter(name).copy_(weight)
            if self.n_steps:
                self.gan.generator.load_state_dict(self.averaged.state_dict())
            self._renew_statistics()

    def _judge(self, x):
        """Return the logits (n,) of images, each changed at random."""
        x = changed(x, self.random)
        return functional_call(self.gan.discriminator, self.spectral.weights(), (2 * x - 1,))

    def _average(self):
        self.n_steps += 1
        decay = min(_DECAY, self.n_steps / (self.n_steps + 9))
        with torch.no_grad():
            for mean, new in zip(self.averaged.parameters(), self.gan.generator.parameters(), strict=True):
                mean.lerp_(new, 1 - decay)

    def _renew_statistics(self):
        norms = [layer for layer in self.gan.generator.modules() if isinstance(layer, _BatchNorm)]
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean of all batches
        self.gan.generator.train()
        for _ in range(_N_BATCHES):
            self.gan.generate(self.draw(_BATCH))
        self.gan.eval()


class SkipStep:
    """Training step of Skip-GANomaly: both networks also minimise the difference of features.

    Parameters
    ----------
    gan : GAN
        Networks to train.
    weights : tuple of float
        Weights of the adversarial loss, the mean absolute residual and the mean squared difference of features in the
        loss of the generator, for pixels between -1 and 1.
    lr : float
        Learning rate of Adam.
    weight_decay : float, default=0.0
        Weight decay of Adam.
    """

    def __init__(self, gan, weights, *, lr, weight_decay=0.0):
        self.gan, self.weights = gan, weights
        self.optimizers = _optimizers(gan, lr, weight_decay)

    def __call__(self, x):
        """Update both networks with a batch of images; return their losses."""
        x, discriminator = 2 * x - 1, self.gan.discriminator
        made = self.gan.generator(x)
        loss_d = self._discriminator_loss(x, made.detach())
        _update(self.optimizers["discriminator"], loss_d)
        with torch.no_grad():
            features = discriminator.trunk(x)
        found = discriminator.trunk(made)
        seeming = functional.softplus(-discriminator.head(found)).mean()
        terms = seeming, (x - made).abs().mean(), (features - found).square().mean()
        loss_g = sum(weight * term for weight, term in zip(self.weights, terms, strict=True))
        _update(self.optimizers["generator"], loss_g)
        return {"loss": loss_g.detach(), "discriminator_loss": loss_d.detach()}

    def _discriminator_loss(self, x, made):
        discriminator = self.gan.discriminator
        features, found = discriminator.trunk(x), discriminator.trunk(made)
        loss = functional.softplus(-discriminator.head(features)) + functional.softplus(discriminator.head(found))
        return loss.mean() + self.weights[2] * (features - found).square().mean()


class SpectralNorm:
    """Weights of a module divided by their largest singular value, which one power iteration at each call follows.

    Parameters
    ----------
    module : Module
        Module; its parameters stay as they are.
    generator : torch.Generator
        Generator of the starting vectors, on the CPU.
    """

    def __init__(self, module, generator):
        self.module = module
        self.vectors = {
            name: torch.randn(len(weight), generator=generator).to(weight.device)
            for name, weight in module.named_parameters()
            if weight.ndim > 1
        }
        for _ in range(_N_ITERATIONS):  # a single one would divide the weights of a trained module by too little
            self.weights()

    def weights(self):
        """Return the divided weights by name; gradients pass to the parameters of the module."""
        return {name: self._divided(name) for name in self.vectors}

    def _divided(self, name):
        weight = self.module.get_parameter(name)
        matrix = weight.flatten(1)
        with torch.no_grad():
            right = functional.normalize(matrix.T @ self.vectors[name], dim=0)
            self.vectors[name] = left = functional.normalize(matrix @ right, dim=0)
        return weight / (left @ matrix @ right)


def changed(x, generator):
    """Return images with changed brightness and contrast, shifted, and with a square cut out, each at random.

    Gradients pass. Real and generated images are changed in the same way, so that the generator need not learn it.

    Parameters
    ----------
    x : Tensor of shape (n, c, h, w)
        Images, in [0, 1].
    generator : torch.Generator
        Generator of the changes, on the CPU.

    Returns
    -------
    Tensor of shape (n, c, h, w)
        Changed images.
    """
    n, _, height, width = x.shape
    brightness, contrast, top, left, row, column = torch.rand(6, n, 1, 1, 1, generator=generator).to(x.device)
    means = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - means) * (contrast + 0.5) + means + (brightness - 0.5) / 2
    y = _shifted(_shifted(x, top, 2), left, 3)
    rows, columns = (torch.arange(side, device=x.device) for side in (height, width))
    cut = _near(rows[:, None], row, height) & _near(columns, column, width)
    return y.masked_fill(cut, 0.5)


def _shifted(x, share, axis):
    """Return images shifted along an axis; pixels at the border are repeated."""
    side = x.shape[axis]
    reach = side // _LARGEST_SHIFT
    moved = torch.arange(side, device=x.device) + (share.flatten() * (2 * reach + 1)).long()[:, None] - reach
    index = moved.clamp(0, side - 1).view(len(x), 1, *((side, 1) if axis == 2 else (1, side)))
    return x.gather(axis, index.expand_as(x))


def _near(places, centre, side):
    return (places - centre * side).abs() < side / (2 * _CUT)


def _optimizers(gan, lr, weight_decay):
    return {
        name: adam(getattr(gan, name), lr=lr, weight_decay=weight_decay, betas=_BETAS)
        for name in ("generator", "discriminator")
    }


def _update(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
