"""Methods of captum: a second opinion on the gradient family, and methods that perturb.

Modules that captum hooks are given copies of their inputs here. Where two of them share a tensor, for example a ReLU
and the max-pool behind it, or a ReLU and a skip connection, captum's hooks would otherwise meet on it and change each
other's gradients. What is wrong all the same is refused, see `captum_limits`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rapbench.backends.captum_limits import POOLS, check_differences, check_rectifiers, check_relevance
from rapbench.backends.modules import attributes_kept, copied_inputs, last_feature_maps
from rapbench.backends.sampling import Ridge, drawing_from, patches, references
from rapbench.core.errors import BadConfig
from rapbench.core.ranges import Count, NonNegative, Several

try:
    from captum import attr
    from captum.attr._utils.lrp_rules import EpsilonRule
except ImportError as error:
    raise BadConfig('backend captum needs captum: pip install "rapbench[captum]"') from error

_AT_ONCE = 16  # perturbed or noisy copies of an image in one forward pass
_HOOKED = (nn.ReLU, *POOLS)


@dataclass(frozen=True, kw_only=True)
class _Captum:
    """A method of captum; the network is left as it was.

    Attributes:
        differs: why its maps differ from those of the same name in other backends; empty where they agree.
    """

    title: ClassVar[str]
    signed: ClassVar[bool] = True
    differs: ClassVar[str] = ""

    def __call__(self, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        with attributes_kept(model), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\s*Setting (forward, )?backward hooks")  # which are removed
            relevance: Tensor = self.relevance(model, x.detach().clone().requires_grad_(), target, seeds)
        return relevance.detach().to(x)

    @property
    def where(self) -> str:
        """What a refusal says cannot handle a layer."""
        return f"captum's {self.title}"

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        """Relevance (N, C, H, W) as captum computes it, of inputs that require gradients."""
        raise AssertionError


@dataclass(frozen=True, kw_only=True)
class Gradient(_Captum):
    """Sensitivity |∂f_c/∂x|.

    Source: Simonyan et al. 2014, Section 3.
    """

    title: ClassVar[str] = "Gradient"
    signed: ClassVar[bool] = False

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        return attr.Saliency(model).attribute(x, target=target)


@dataclass(frozen=True, kw_only=True)
class InputGradient(_Captum):
    """x · ∂f_c/∂x, in units of the normalised input.

    Source: Shrikumar et al. 2016, Section 2.
    """

    title: ClassVar[str] = "Input*Gradient"

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        return attr.InputXGradient(model).attribute(x, target=target)


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(_Captum):
    """(x - x0) · mean of ∂f_c/∂x at the midpoints of equal steps from a reference x0 to x.

    Attributes:
        steps: points on the path.
        reference: value of every element of x0, in network-input units.

    Source: Sundararajan et al. 2017, Eq. 3.
    """

    title: ClassVar[str] = "Integrated Gradients"
    differs: ClassVar[str] = "captum rounds the points of the path to single precision"

    steps: Count = 50
    reference: float = 0.0

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        points = {"n_steps": self.steps, "method": "riemann_middle", "internal_batch_size": len(x)}
        return attr.IntegratedGradients(model).attribute(x, self.reference, target, **points)


@dataclass(frozen=True, kw_only=True)
class DeconvNet(_Captum):
    """The gradient where every ReLU passes G_in = max(G_out, 0).

    Source: Zeiler and Fergus 2014, Section 2.1.
    """

    title: ClassVar[str] = "DeconvNet"
    explainer: ClassVar[type[attr.GradientAttribution]] = attr.Deconvolution

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        check_rectifiers(model, x, self.where)
        with copied_inputs(model, _HOOKED):
            return self.explainer(model).attribute(x, target=target)


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(DeconvNet):
    """The gradient where every ReLU passes G_in = max(G_out, 0) · [pre-activation > 0].

    Source: Springenberg et al. 2015, Section 3.4.
    """

    title: ClassVar[str] = "Guided Backprop"
    explainer: ClassVar[type[attr.GradientAttribution]] = attr.GuidedBackprop


@dataclass(frozen=True, kw_only=True)
class GradCam(_Captum):
    """Grad-CAM at the last feature maps, enlarged bilinearly and shared evenly by the input's channels.

    Source: Selvaraju et al. 2017, Eq. 1 and 2.
    """

    title: ClassVar[str] = "Grad-CAM"
    signed: ClassVar[bool] = False

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        layer = last_feature_maps(model, x, self.where)
        maps = attr.LayerGradCam(model, layer).attribute(x, target=target, relu_attributions=True)
        enlarged = attr.LayerAttribution.interpolate(maps, tuple(x.shape[2:]), "bilinear")
        return (enlarged / x.shape[1]).expand_as(x).clone()


@dataclass(frozen=True, kw_only=True)
class GuidedGradCam(_Captum):
    """Grad-CAM times Guided Backprop.

    Source: Selvaraju et al. 2017, Section 3.2.
    """

    title: ClassVar[str] = "Guided Grad-CAM"

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        check_rectifiers(model, x, self.where)
        layer = last_feature_maps(model, x, self.where)
        with copied_inputs(model, _HOOKED):
            return attr.GuidedGradCam(model, layer).attribute(x, target=target, interpolate_mode="bilinear")


@dataclass(frozen=True, kw_only=True)
class DeepLiftRescale(_Captum):
    """(x - x0) · m, where multipliers m chain like gradients and a nonlinearity's is Δy / Δx.

    Attributes:
        reference: value of every element of x0, in network-input units.

    Source: Shrikumar et al. 2017, Sections 3.3 and 3.5.2.
    """

    title: ClassVar[str] = "DeepLIFT (Rescale)"

    reference: float = 0.0

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        check_differences(model, x, self.where)
        with copied_inputs(model, _HOOKED):
            return attr.DeepLift(model).attribute(x, baselines=self.reference, target=target)


@dataclass(frozen=True, kw_only=True)
class LRPEpsilon(_Captum):
    """LRP-ε in convolutions and dense layers, LRP-0 in pools and batch norm.

    Source: Bach et al. 2015, Eq. 58.
    """

    title: ClassVar[str] = "LRP ε"
    differs: ClassVar[str] = "captum does not fold batch norm: ε is added before it, and it follows LRP-0"

    epsilon: NonNegative = 1e-6

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        check_relevance(model, x, self.where)
        leaves = [module for module in model.modules() if not list(module.children())]
        for module in leaves:
            if type(module) is not nn.ReLU:
                weighted = isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
                module.rule = EpsilonRule(self.epsilon if weighted else 1e-30)
        with copied_inputs(model, (nn.Module,)):
            return attr.LRP(model).attribute(x, target=target)


@dataclass(frozen=True, kw_only=True)
class _Drawing(_Captum):
    """A method that draws: one image after the other, each from its own seed."""

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        maps = []
        for n, seed in enumerate(seeds.tolist()):
            with drawing_from(seed, x.device):
                image = x[n : n + 1].detach().requires_grad_()
                maps.append(self.relevance_of_one(model, image, target[n : n + 1]).detach())
        return torch.cat(maps)

    def relevance_of_one(self, model: nn.Module, x: Tensor, target: Tensor) -> Any:
        """Relevance (1, C, H, W) of one image, drawn from the global generators."""
        raise AssertionError


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(_Drawing):
    """|mean of ∂f_c/∂x at x + e|, e normal with a standard deviation that is a share of the image's range.

    Attributes:
        samples: noisy copies.
        noise: standard deviation over (max x - min x), per image.

    Source: Smilkov et al. 2017, Section 3.
    """

    title: ClassVar[str] = "SmoothGrad"
    signed: ClassVar[bool] = False
    differs: ClassVar[str] = (
        "captum draws on the device, ours on the CPU: on a CPU they agree where C·H·W is a multiple of 16"
    )
    average: ClassVar[Literal["smoothgrad", "smoothgrad_sq"]] = "smoothgrad"

    samples: Count = 50
    noise: NonNegative = 0.15

    def relevance_of_one(self, model: nn.Module, x: Tensor, target: Tensor) -> Any:
        noisy = attr.NoiseTunnel(attr.Saliency(model))
        deviation = self.noise * float(x.detach().max() - x.detach().min())
        many = {"nt_type": self.average, "nt_samples": self.samples, "nt_samples_batch_size": _AT_ONCE}
        return noisy.attribute(x, **many, stdevs=deviation, target=target, abs=False).abs()


@dataclass(frozen=True, kw_only=True)
class SmoothGradSquared(SmoothGrad):
    """Mean of (∂f_c/∂x)² at noisy inputs.

    Source: Hooker et al. 2019, Section 3.1.
    """

    title: ClassVar[str] = "SmoothGrad²"
    average: ClassVar[Literal["smoothgrad", "smoothgrad_sq"]] = "smoothgrad_sq"


@dataclass(frozen=True, kw_only=True)
class GradientShap(_Drawing):
    """Mean of (x - x0) · ∂f_c/∂x at random points between x and references x0 drawn from a few.

    Attributes:
        samples: random points.
        references: how many there are: zero, and images of standard normal noise in network-input units.

    Source: Lundberg and Lee 2017; captum's estimator of expected gradients.
    """

    title: ClassVar[str] = "Gradient SHAP"

    samples: Count = 50
    references: Count = 5

    def relevance_of_one(self, model: nn.Module, x: Tensor, target: Tensor) -> Any:
        baselines = references(x, self.references)
        return attr.GradientShap(model).attribute(x, baselines, n_samples=self.samples, target=target)


@dataclass(frozen=True, kw_only=True)
class DeepLiftShap(_Drawing):
    """DeepLIFT's Rescale rule averaged over references.

    Attributes:
        references: how many there are: zero, and images of standard normal noise in network-input units. Zero alone
            would be `deeplift_rescale`.

    Source: Lundberg and Lee 2017, Section 4.2.
    """

    title: ClassVar[str] = "DeepLIFT SHAP"

    references: Several = 5

    def relevance_of_one(self, model: nn.Module, x: Tensor, target: Tensor) -> Any:
        check_differences(model, x, self.where)
        with copied_inputs(model, _HOOKED):
            return attr.DeepLiftShap(model).attribute(x, references(x, self.references), target=target)


@dataclass(frozen=True, kw_only=True)
class _Patches(_Drawing):
    """A linear model of the logit over square patches that are kept or set to zero, the mean colour.

    Attributes:
        patch: side of the patches in pixels; those at the right and lower edge may be smaller.
        samples: images with some patches blanked out.
    """

    explainer: ClassVar[type[attr.Lime]]
    penalty: ClassVar[float]

    patch: Count = 16
    samples: Several = 1000

    def relevance_of_one(self, model: nn.Module, x: Tensor, target: Tensor) -> Any:
        explainer = self.explainer(model)
        explainer.interpretable_model = Ridge(self.penalty)
        sampling = {"n_samples": self.samples, "perturbations_per_eval": _AT_ONCE}
        return explainer.attribute(x.detach(), target=target, feature_mask=patches(x, self.patch), **sampling)


@dataclass(frozen=True, kw_only=True)
class Lime(_Patches):
    """LIME with patches for superpixels: ridge regression, weighted by the cosine similarity to the image.

    Source: Ribeiro et al. 2016, Eq. 1 and 2.
    Departs: patches of a grid, not segments; ridge regression over all of them, not over a chosen few.
    """

    title: ClassVar[str] = "LIME"
    explainer: ClassVar[type[attr.Lime]] = attr.Lime
    penalty: ClassVar[float] = 1.0


@dataclass(frozen=True, kw_only=True)
class KernelShap(_Patches):
    """Shapley values of patches by least squares over random coalitions.

    Source: Lundberg and Lee 2017, Theorem 2.
    """

    title: ClassVar[str] = "Kernel SHAP"
    explainer: ClassVar[type[attr.Lime]] = attr.KernelShap
    penalty: ClassVar[float] = 0.0


@dataclass(frozen=True, kw_only=True)
class Occlusion(_Captum):
    """What the logit loses when a window is set to zero, the mean colour; mean over the windows that cover a pixel.

    Attributes:
        patch: side of the window in pixels.
        stride: pixels from one window to the next.

    Source: Zeiler and Fergus 2014, Section 4.2.
    """

    title: ClassVar[str] = "Occlusion"

    patch: Count = 16
    stride: Count = 8

    def __post_init__(self) -> None:
        if self.stride > self.patch:
            raise ValueError("stride must be at most patch")

    def relevance(self, model: nn.Module, x: Tensor, target: Tensor, seeds: Tensor) -> Any:
        window = (x.shape[1], *(min(self.patch, side) for side in x.shape[2:]))
        strides = (x.shape[1], *(min(self.stride, side) for side in window[1:]))
        return attr.Occlusion(model).attribute(
            x.detach(), window, strides, target=target, perturbations_per_eval=max(1, _AT_ONCE // len(x))
        )
