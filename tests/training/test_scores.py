import torch

from app.detection.artifact import Architecture
from training.model.autoencoders import build
from training.model.scores import LossScore, ScoredAutoencoder, reconstruction_loss, score_images


def scored(seed=0):
    return ScoredAutoencoder(
        build(Architecture(name="gate", arguments={"latent_size": 4, "width": 16}), seed), LossScore()
    )


def test_loss_is_the_mean_over_784_pixels_of_each_image():
    images = torch.zeros(2, 1, 28, 28)
    reconstructions = torch.zeros(2, 1, 28, 28)
    reconstructions[1, 0, 0, 0] = 0.5
    torch.testing.assert_close(reconstruction_loss(images, reconstructions), torch.tensor([0.0, 0.25 / 784]))


def test_reconstruction_is_clipped_and_the_loss_is_that_of_what_is_returned():
    model = scored()
    with torch.no_grad():
        model.autoencoder.decoder[-2].bias[:392] = 3.0
        model.autoencoder.decoder[-2].bias[392:] = -3.0
    images = torch.rand(5, 1, 28, 28)
    verdict = score_images(model, images)
    assert verdict.reconstruction.shape == (5, 1, 28, 28)
    assert verdict.reconstruction.min() == 0
    assert verdict.reconstruction.max() == 1
    expected = (images - verdict.reconstruction).square().flatten(1).mean(dim=1)
    torch.testing.assert_close(verdict.loss, expected)


def test_score_of_the_tutorials_models_is_the_loss_and_their_only_view():
    verdict = score_images(scored(), torch.rand(3, 1, 28, 28))
    assert torch.equal(verdict.score, verdict.loss)
    assert torch.equal(verdict.views, verdict.loss[:, None])
    assert [view.name for view in LossScore.views] == ["loss"]


def test_batches_do_not_change_a_verdict():
    images = torch.rand(7, 1, 28, 28)
    whole, parts = score_images(scored(), images), score_images(scored(), images, batch_size=2)
    torch.testing.assert_close(whole.score, parts.score)


def test_image_that_is_no_number_gets_a_score_that_is_no_number():
    images = torch.rand(2, 1, 28, 28)
    images[1, 0, 3, 3] = torch.nan
    scores = score_images(scored(), images).score
    assert not scores[0].isnan()
    assert scores[1].isnan()
