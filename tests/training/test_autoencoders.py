import pytest
import torch
from torch import nn

from app.detection.artifact import Architecture
from training.model.autoencoders import ARCHITECTURES, build, describe
from training.plan import DEFAULTS

SMALL = [("gate", 32), ("ae", 1), ("vae", 2), ("cvae", 1)]


def layer_shapes(module, inputs):
    """The output shape of each layer of a Sequential, without the batch."""
    shapes = []
    for layer in module:
        inputs = layer(inputs)
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Flatten | nn.Unflatten):
            shapes.append(tuple(inputs.shape[1:]))
    return shapes


def test_plain_autoencoder_has_the_tutorials_parameters():
    plain = build(describe("ae", latent_size=1, loss="mse"))
    assert sum(parameter.numel() for parameter in plain.parameters()) == 11_612_945


def test_plain_autoencoder_has_the_tutorials_layers():
    plain = build(describe("ae", latent_size=1, loss="mse"))
    assert layer_shapes(plain.encoder, torch.zeros(2, 1, 28, 28)) == [(784,), (2048,), (2048,), (1,)]
    assert layer_shapes(plain.decoder, torch.zeros(2, 1)) == [(2048,), (2048,), (784,), (1, 28, 28)]
    assert not any(isinstance(layer, nn.Sigmoid) for layer in plain.modules())


def test_variational_autoencoder_has_the_tutorials_layers_and_two_heads():
    variational = build(describe("vae", latent_size=1, loss="mse"))
    assert layer_shapes(variational.encoder, torch.zeros(2, 1, 28, 28)) == [(784,), (2048,), (2048,)]
    mean, log_variance = variational.distribution(torch.zeros(2, 1, 28, 28))
    assert mean.shape == log_variance.shape == (2, 1)


def test_convolutional_autoencoder_has_the_tutorials_layers():
    convolutional = build(describe("cvae", latent_size=1, loss="mse"))
    assert layer_shapes(convolutional.encoder, torch.zeros(2, 1, 28, 28)) == [
        (32, 28, 28),
        (64, 14, 14),
        (64, 7, 7),
        (64, 7, 7),
        (3136,),
    ]
    assert layer_shapes(convolutional.decoder, torch.zeros(2, 1)) == [
        (3136,),
        (64, 7, 7),
        (64, 7, 7),
        (64, 14, 14),
        (32, 28, 28),
        (1, 28, 28),
    ]
    assert isinstance(convolutional.decoder[-1], nn.Sigmoid)


def test_gate_has_narrow_layers_around_a_wide_bottleneck():
    gate = build(describe("gate", latent_size=32, loss="mse"))
    assert layer_shapes(gate.encoder, torch.zeros(2, 1, 28, 28)) == [(784,), (256,), (256,), (32,)]
    assert layer_shapes(gate.decoder, torch.zeros(2, 32)) == [(256,), (256,), (784,), (1, 28, 28)]


@pytest.mark.parametrize(("model", "latent_size"), SMALL)
def test_every_network_redraws_at_its_own_latent_size(model, latent_size):
    autoencoder = build(describe(model, latent_size, loss="mse"))
    images = torch.rand(3, 1, 28, 28)
    assert autoencoder.encode(images).shape == (3, latent_size)
    assert autoencoder(images).shape == (3, 1, 28, 28)
    torch.testing.assert_close(autoencoder(images), autoencoder.decode(autoencoder.encode(images)))


@pytest.mark.parametrize("model", ["vae", "cvae"])
def test_variational_latent_is_its_mean_outside_training(model):
    autoencoder = build(describe(model, latent_size=2, loss="mse"))
    images = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(autoencoder.encode(images), autoencoder.distribution(images)[0])


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_binary_cross_entropy_gets_an_output_between_0_and_1(model):
    autoencoder = build(describe(model, latent_size=1, loss="bce"))
    reconstructions = autoencoder.decode(torch.tensor([[-1e4], [1e4]]))
    assert reconstructions.min() >= 0
    assert reconstructions.max() <= 1


def test_weights_depend_on_the_seed_and_leave_the_global_generator_alone():
    architecture = Architecture(name="gate", arguments={"latent_size": 2})
    state = torch.random.get_rng_state()
    weights = [build(architecture, seed).encoder[1].weight for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_command_line_offers_every_network():
    assert list(DEFAULTS) == list(ARCHITECTURES)
