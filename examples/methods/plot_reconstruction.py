"""
Reconstruction, and projection to the nearest normal image
==========================================================

An autoencoder that was trained on normal images cannot rebuild a defect, but it blurs the texture around it as well.
Gradient projection moves the image itself until the autoencoder accepts it, and keeps what was normal.
"""

# %%
# The network sees patches of 32 pixels, of which 30 images contain many. Ten epochs are few; they are enough for a
# grid.

from skanomaly import Autoencoder, GradientProjection, Pixels
from skanomaly.datasets import make_surfaces
from skanomaly.plotting import LossCurveDisplay, ReconstructionDisplay

data = make_surfaces("grid", n_train=30, n_good=0, n_anomalous=10, size=64, random_state=0)
autoencoder = Autoencoder(Pixels(64), max_epochs=10, false_alarm_rate=None, random_state=0)
autoencoder.fit(data.X_train)
LossCurveDisplay.from_estimator(autoencoder)

# %%
# Original, reconstruction, residual and map: the scratch and the hole are gone from the reconstruction, and so is the
# grain of the surface.

shown = data.X_test[[0, 2]]
display = ReconstructionDisplay.from_estimator(autoencoder, shown)

# %%
# The projection of the same images, by the same network: most of the grain is kept, so that the residual is the
# defect. ``anchor`` is the price of a change. It is three times its default here, because a network that was trained
# for so short a time objects to normal detail as well.

from sklearn.frozen import FrozenEstimator

projection = GradientProjection(FrozenEstimator(autoencoder), anchor=0.15, false_alarm_rate=None)
projection.fit(data.X_train[:1])  # the network is fitted already
display = ReconstructionDisplay.from_estimator(projection, shown)
