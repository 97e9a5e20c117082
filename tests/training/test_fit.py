import numpy as np
import pytest
import torch
import torch.nn.functional as F

from app.detection.artifact import Architecture
from training.data.dataset import circle_dataset
from training.errors import TrainingError
from training.fitting.fit import fit, objective, to_grey_levels
from training.model.autoencoders import build, describe
from training.plan import FitSettings


@pytest.fixture(scope="module")
def images():
    decoded = circle_dataset(count=100, seed=0, calibration_count=1, test_count=1).train.images
    return (decoded * 255).round().astype(np.uint8)


def small(seed=0, sigmoid=False):
    return build(Architecture(name="gate", arguments={"latent_size": 4, "width": 16, "sigmoid": sigmoid}), seed)


def generator():
    return torch.Generator().manual_seed(0)


def test_loss_falls_and_each_epoch_prints_the_tutorials_line(images, capsys):
    losses = fit(small(), images, FitSettings(epochs=3), seed=0)
    assert losses[2] < losses[1] < losses[0]
    assert capsys.readouterr().out.splitlines() == [
        f"Epoch {epoch:03} | Loss >> {loss:.4f}" for epoch, loss in enumerate(losses, start=1)
    ]


def test_same_seed_gives_the_same_weights(images):
    weights = []
    for seed in (0, 0, 1):
        autoencoder = small()
        fit(autoencoder, images, FitSettings(epochs=1), seed)
        weights.append(torch.cat([parameter.flatten() for parameter in autoencoder.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_epoch_loss_is_that_of_the_tutorials_own_loop(images):
    """Adam, mean squared error and shuffled batches by a DataLoader: the same figures, up to the order of images."""
    settings = FitSettings(epochs=5)
    ours = fit(build(describe("ae", 1, "mse")), images, settings, seed=0)
    autoencoder = build(describe("ae", 1, "mse"))
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=3e-4)
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(to_grey_levels(torch.from_numpy(images))[:, None], batch_size=32, shuffle=True)
    theirs = []
    for _ in range(settings.epochs):
        losses = []
        for batch in loader:
            loss = F.mse_loss(autoencoder(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        theirs.append(np.mean(losses))
    assert ours == pytest.approx(theirs, rel=0.15)


def test_binary_cross_entropy_trains_a_sigmoid_output(images):
    losses = fit(small(sigmoid=True), images, FitSettings(epochs=3, loss="bce"), seed=0)
    assert losses[2] < losses[0]


def test_variational_objective_is_the_sum_over_pixels_plus_divergence():
    variational = build(describe("cvae", latent_size=3, loss="mse"))
    with torch.no_grad():
        # The encoder says mean 2 and log-variance -40 whatever it sees: no chance is left.
        for head, bias in ((variational.mean, 2.0), (variational.log_variance, -40.0)):
            head.weight.zero_()
            head.bias.fill_(bias)
    targets = torch.rand(4, 1, 28, 28)
    for loss, pixel_loss in (("mse", F.mse_loss), ("bce", F.binary_cross_entropy)):
        reconstructions = variational.decode(torch.full((4, 3), 2.0))
        pixels = pixel_loss(reconstructions, targets, reduction="sum") / 4
        divergence = 3 * (4 + 0 - 1 + 40) / 2
        torch.testing.assert_close(objective(variational, targets, loss, generator()), pixels + divergence)


def test_variational_encoder_samples_in_training():
    variational = build(describe("cvae", latent_size=1, loss="mse"))
    targets, source = torch.rand(4, 1, 28, 28), generator()
    assert objective(variational, targets, "mse", source) != objective(variational, targets, "mse", source)


def test_denoising_autoencoder_sees_damage_but_redraws_the_clean_image():
    class Identity(type(small())):
        def forward(self, images):
            self.seen = images
            return images

    identity, targets = Identity(2, 4), torch.rand(64, 1, 28, 28)
    loss = objective(identity, targets, "mse", generator())
    damage = identity.seen - targets
    untouched = (damage == 0).all(dim=(1, 2, 3)).float().mean()
    assert 0.05 < untouched < 0.5
    assert damage.std() > 0.1
    torch.testing.assert_close(loss, damage.square().mean())


def test_loss_falls_over_one_cycle_of_the_learning_rate_too(images):
    settings = FitSettings(epochs=3, learning_rate=1e-3, one_cycle=True)
    losses = fit(small(), images, settings, seed=0)
    assert losses[2] < losses[0]


@pytest.mark.parametrize(("count", "epochs"), [(100, 5120), (56_000, 20), (200_000, 8)])
def test_passes_follow_from_the_number_of_images_when_none_are_asked_for(count, epochs):
    assert FitSettings(epochs=None, batch_size=128).epochs_for(count) == epochs
    assert FitSettings(epochs=7).epochs_for(count) == 7


def test_bytes_become_the_grey_levels_of_the_serving_decoder(images):
    decoded = circle_dataset(count=100, seed=0, calibration_count=1, test_count=1).train.images
    np.testing.assert_array_equal(to_grey_levels(torch.from_numpy(images)).numpy(), decoded)


def test_training_that_diverges_stops_with_a_remedy(images):
    with pytest.raises(TrainingError, match=r"epoch 1 .*lower --learning-rate"):
        fit(small(), images, FitSettings(epochs=1, learning_rate=1e30), seed=0)
