"""Native attribution methods, one file a family. This file names them and imports none."""

from rapbench.core.catalogue import Catalogue, Entry

METHODS = Catalogue(
    "method",
    {
        "rap": Entry("rapbench.methods.rap:RAP", "Relative Attributing Propagation (Nam et al. 2020)"),
        "lrp_a1b0": Entry("rapbench.methods.lrp:LRPAlpha1Beta0", "LRP, alpha 1 beta 0 (Bach et al. 2015)"),
        "lrp_a2b1": Entry("rapbench.methods.lrp:LRPAlpha2Beta1", "LRP, alpha 2 beta 1 (Bach et al. 2015)"),
        "gradient": Entry("rapbench.methods.gradient:Gradient", "magnitude of the gradient (Simonyan et al. 2014)"),
        "input_gradient": Entry(
            "rapbench.methods.gradient:InputGradient", "input times gradient (Shrikumar et al. 2016)"
        ),
        "integrated_gradients": Entry(
            "rapbench.methods.integrated:IntegratedGradients", "gradients along a path (Sundararajan et al. 2017)"
        ),
        "guided_backprop": Entry(
            "rapbench.methods.guided:GuidedBackprop",
            "gradient through ReLUs in both directions (Springenberg et al. 2015)",
        ),
        "random": Entry("rapbench.methods.control:Random", "control: normal noise, seeded per image"),
        "center": Entry("rapbench.methods.control:Center", "control: a square around the image's centre"),
        "all_background": Entry("rapbench.methods.control:AllBackground", "control: nothing is relevant"),
        "all_foreground": Entry("rapbench.methods.control:AllForeground", "control: every pixel is equally relevant"),
    },
)
