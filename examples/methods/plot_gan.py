"""
What a GAN takes for normal
===========================

AnoGAN trains a generator of normal images, and scores an image by how well the generator can imitate it. Before
trusting such a score, look at what the generator makes.
"""

# %%
# A small GAN of 32 x 32 pixels, trained for a minute. f-AnoGAN adds an encoder, which finds the code of an image in
# one pass instead of a search of 500 steps.

from skanomaly import AnoGAN, Pixels
from skanomaly.datasets import make_parts
from skanomaly.networks import DCGAN

data = make_parts(n_train=100, n_good=1, n_anomalous=5, size=48, shift=0.02, rotation=2, random_state=0)
detector = AnoGAN(
    Pixels(32), DCGAN(32, width=12), inversion="encoder", max_epochs=100, false_alarm_rate=None, random_state=0
)
detector.fit(data.X_train)
print(f"variance of generated images: {detector.diversity_:.0%} of that of the training images")

# %%
# Generated plates. They must look like the training images, and differ among themselves: a generator that makes one
# image from every code has collapsed, and a ``CollapseWarning`` says so. After this short training, they have a hole,
# but no print yet: the score would take the print of every plate for an anomaly.

import matplotlib.pyplot as plt

from skanomaly.plotting import GeneratedSamplesDisplay

_, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
GeneratedSamplesDisplay.from_images(data.X_train[:36] / 255, ax=axes[0])
axes[0].set_title("training images")
GeneratedSamplesDisplay.from_estimator(detector, 36, random_state=0, ax=axes[1])
_ = axes[1].set_title("generated images")

# %%
# Losses of a GAN do not measure quality; they show whether one of the networks has won.

from skanomaly.plotting import LossCurveDisplay

LossCurveDisplay.from_estimator(detector)

# %%
# Two defective plates, and what the generator makes of them. It makes normal plates, but not *these* plates: the
# difference has the grain and the outline of every plate in it, so that small defects drown. This is why a GAN is
# better at showing what is normal than at finding defects.

from skanomaly.plotting import ReconstructionDisplay

display = ReconstructionDisplay.from_estimator(detector, data.X_test[[2, 3]])
