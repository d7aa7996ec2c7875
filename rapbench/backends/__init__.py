"""Where methods come from. A backend is a catalogue of the method names it provides; this file imports none of them.

A name means the same method in every backend that has it. Packages add methods of their own to the native ones by
entry points in the group `rapbench.methods`, each `name = "module:Class"`; a name of this project keeps its meaning.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points

from rapbench.core.catalogue import Catalogue, Entry
from rapbench.methods import METHODS

_ONLY_CAPTUM = {
    "lime": "local linear model of the logit over patches (Ribeiro et al. 2016)",
    "kernel_shap": "Shapley values of patches by regression (Lundberg and Lee 2017)",
    "gradient_shap": "gradients between random references and the image (Lundberg and Lee 2017)",
    "deep_lift_shap": "DeepLIFT averaged over references (Lundberg and Lee 2017)",
    "occlusion": "what the logit loses when a window is blanked out (Zeiler and Fergus 2014)",
}


def _third_party() -> dict[str, Entry]:
    """Methods of installed packages."""
    found = entry_points(group="rapbench.methods")
    return {point.name: Entry(point.value, f"from {point.dist.name if point.dist else 'outside'}") for point in found}


def _provided(module: str, classes: Mapping[str, str]) -> Catalogue:
    summaries = {name: entry.summary for name, entry in METHODS.items()} | _ONLY_CAPTUM
    return Catalogue("method", {name: Entry(f"{module}:{cls}", summaries[name]) for name, cls in classes.items()})


NATIVE = Catalogue("method", {**METHODS, **{k: v for k, v in _third_party().items() if k not in METHODS}})
CAPTUM = _provided(
    "rapbench.backends.captum",
    {
        "lrp_epsilon": "LRPEpsilon",
        "deeplift_rescale": "DeepLiftRescale",
        "gradient": "Gradient",
        "input_gradient": "InputGradient",
        "integrated_gradients": "IntegratedGradients",
        "smooth_grad": "SmoothGrad",
        "smooth_grad_squared": "SmoothGradSquared",
        "deconvnet": "DeconvNet",
        "guided_backprop": "GuidedBackprop",
        "grad_cam": "GradCam",
        "guided_grad_cam": "GuidedGradCam",
        "lime": "Lime",
        "kernel_shap": "KernelShap",
        "gradient_shap": "GradientShap",
        "deep_lift_shap": "DeepLiftShap",
        "occlusion": "Occlusion",
    },
)
ZENNIT = _provided(
    "rapbench.backends.zennit",
    {
        "lrp_zero": "LRPZero",
        "lrp_epsilon": "LRPEpsilon",
        "lrp_gamma": "LRPGamma",
        "lrp_alpha_beta": "LRPAlphaBeta",
        "lrp_a1b0": "LRPAlpha1Beta0",
        "lrp_a2b1": "LRPAlpha2Beta1",
        "lrp_z_plus": "LRPZPlus",
        "lrp_z_beta": "LRPZBeta",
        "lrp_w_square": "LRPWSquare",
        "lrp_flat": "LRPFlat",
        "lrp_epsilon_plus": "LRPEpsilonPlus",
        "lrp_epsilon_plus_flat": "LRPEpsilonPlusFlat",
        "lrp_epsilon_gamma_box": "LRPEpsilonGammaBox",
        "deconvnet": "DeconvNet",
        "guided_backprop": "GuidedBackprop",
    },
)

BACKENDS = Catalogue(
    "backend",
    {
        "native": Entry("rapbench.backends:NATIVE", "this project's own methods"),
        "captum": Entry("rapbench.backends:CAPTUM", "captum's gradient family and perturbation methods"),
        "zennit": Entry("rapbench.backends:ZENNIT", "zennit's LRP rules and composites"),
    },
)


def providers() -> dict[str, list[str]]:
    """The backends that provide each method name, native names first."""
    found: dict[str, list[str]] = {}
    for backend in BACKENDS:
        for name in BACKENDS.load(backend):
            found.setdefault(name, []).append(backend)
    return found
