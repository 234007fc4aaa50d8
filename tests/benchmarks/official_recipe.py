"""Train and test in the official way, as a baseline to measure the kit against.

Same networks, same numbers (the parity fixtures are run through it too), and the official habits that cost time: the
encoder is in eval mode but in the autograd graph, its layer4 runs for nothing, features are computed in every epoch,
tensors are in the default layout, Adam is the default one; at test time one image passes at a time, maps are fused and
smoothed on the CPU by scipy, pixels are gathered in Python lists, and PRO is taken per image, the regions labeled again
at every threshold (main.py:83-104, test.py:60-110, 356-382). What no longer runs there, a data frame that grows by a
row per threshold, is a list of rows here: the baseline is faster than the original was.
"""
import numpy as np
import torch
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import auc, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate
from torchvision.models import get_model

from rdlib.decoder import StudentDecoder
from rdlib.ocbe import OneClassBottleneckEmbedding


class OfficialRecipe:
    """Encoder, bottleneck and decoder, trained and tested as the official scripts do."""

    def __init__(self, backbone: str):
        self.encoder = get_model(backbone, weights=None).eval()
        self.bottleneck = OneClassBottleneckEmbedding(backbone)
        self.decoder = StudentDecoder(backbone)
        parameters = [*self.decoder.parameters(), *self.bottleneck.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=0.005, betas=(0.5, 0.999))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Extract three feature maps of (B, 3, H, W), layer4 computed and dropped."""
        net = self.encoder
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        features = []
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = layer(x)
            features.append(x)
        return features[:3]

    def train_step(self, images: Tensor) -> float:
        """Make one step on one batch and return the loss."""
        inputs = self.encode(images)
        outputs = self.decoder(self.bottleneck(inputs))
        loss = 0
        for a, b in zip(inputs, outputs, strict=True):
            loss = loss + torch.mean(1 - cosine_similarity(a.view(a.shape[0], -1), b.view(b.shape[0], -1)))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def train(self) -> None:
        """Train bottleneck and decoder; the encoder stays in eval mode."""
        self.bottleneck.train()
        self.decoder.train()

    @torch.no_grad()
    def anomaly_map(self, image: Tensor, sigma: float = 4) -> np.ndarray:
        """Compute the map of (1, 3, H, W) -> (H, W) float32, smoothed on the CPU."""
        inputs = self.encode(image)
        outputs = self.decoder(self.bottleneck(inputs))
        total = np.zeros(image.shape[-2:])
        for a, b in zip(inputs, outputs, strict=True):
            distance = (1 - cosine_similarity(a, b))[:, None]
            total += interpolate(distance, image.shape[-2:], mode="bilinear", align_corners=True)[0, 0].numpy()
        return gaussian_filter(total.astype(np.float32), sigma=sigma)

    def predict_all(self, images: Tensor) -> list[np.ndarray]:
        """Predict (N, 3, H, W) images, one at a time -> N smoothed maps."""
        for part in (self.bottleneck, self.decoder):
            part.eval()
        return [self.anomaly_map(image[None]) for image in images]


def judge(masks: Tensor, maps: list[np.ndarray]) -> dict[str, float]:
    """Compute image AUROC, pixel AUROC and mean per-image PRO of (N, H, W) masks and N maps."""
    truth_pixels, score_pixels, truths, scores, pros = [], [], [], [], []
    for mask, scored in zip(masks.numpy().astype(int), maps, strict=True):
        if mask.max():
            pros.append(pro(mask, scored))
        truth_pixels.extend(mask.ravel())
        score_pixels.extend(scored.ravel())
        truths.append(mask.max())
        scores.append(scored.max())
    return {"image_auroc": roc_auc_score(truths, scores), "pixel_auroc": roc_auc_score(truth_pixels, score_pixels),
            "aupro_per_image": float(np.mean(pros))}


def pro(mask: np.ndarray, scores: np.ndarray, n_thresholds: int = 200) -> float:
    """Compute the per-region overlap of one image (mask of 0 and 1) at each threshold whose FPR is below 0.3."""
    low, high = scores.min(), scores.max()
    rows = []
    for threshold in np.arange(low, high, (high - low) / n_thresholds):
        marked = scores > threshold
        components, count = label(mask, np.ones((3, 3)))
        overlaps = []
        for i in range(1, count + 1):
            rows_of, columns_of = np.nonzero(components == i)
            overlaps.append(marked[rows_of, columns_of].sum() / len(rows_of))
        normal = 1 - mask
        rows.append((np.logical_and(normal, marked).sum() / normal.sum(), np.mean(overlaps)))
    fpr, overlap = np.array([row for row in rows if row[0] < 0.3]).T
    return auc(fpr / fpr.max(), overlap)


def load_filled(recipe: OfficialRecipe, encoder: dict, bottleneck: dict, decoder: dict) -> None:
    """Give the recipe's networks the weights of three state dicts with this kit's keys (for the parity test)."""
    nn.Module.load_state_dict(recipe.encoder, encoder, strict=False)
    recipe.bottleneck.load_state_dict(bottleneck)
    recipe.decoder.load_state_dict(decoder)
