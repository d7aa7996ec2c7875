"""Native attribution methods, one file a family. This file names them and imports none."""

from rapbench.core.catalogue import Catalogue, Entry

METHODS = Catalogue(
    "method",
    {
        "rap": Entry("rapbench.methods.rap:RAP", "Relative Attributing Propagation (Nam et al. 2020)"),
        "lrp_zero": Entry("rapbench.methods.lrp:LRPZero", "LRP-0 (Bach et al. 2015)"),
        "lrp_epsilon": Entry("rapbench.methods.lrp:LRPEpsilon", "LRP, epsilon rule (Bach et al. 2015)"),
        "lrp_gamma": Entry("rapbench.methods.lrp:LRPGamma", "LRP, gamma rule (Montavon et al. 2019)"),
        "lrp_alpha_beta": Entry("rapbench.methods.lrp:LRPAlphaBeta", "LRP, alpha-beta rule (Bach et al. 2015)"),
        "lrp_a1b0": Entry("rapbench.methods.lrp:LRPAlpha1Beta0", "LRP, alpha 1 beta 0 (Bach et al. 2015)"),
        "lrp_a2b1": Entry("rapbench.methods.lrp:LRPAlpha2Beta1", "LRP, alpha 2 beta 1 (Bach et al. 2015)"),
        "lrp_z_plus": Entry("rapbench.methods.lrp:LRPZPlus", "LRP, z+ rule (Montavon et al. 2017)"),
        "lrp_z_beta": Entry("rapbench.methods.lrp:LRPZBeta", "z+ in hidden layers, z-beta at pixels"),
        "lrp_w_square": Entry("rapbench.methods.lrp:LRPWSquare", "LRP, w-square rule (Montavon et al. 2017)"),
        "lrp_flat": Entry("rapbench.methods.lrp:LRPFlat", "LRP, flat rule (Lapuschkin et al. 2017)"),
        "lrp_epsilon_plus": Entry(
            "rapbench.methods.lrp_composites:LRPEpsilonPlus", "epsilon in dense layers, z+ in convolutions"
        ),
        "lrp_epsilon_plus_flat": Entry(
            "rapbench.methods.lrp_composites:LRPEpsilonPlusFlat", "the same, flat at pixels"
        ),
        "lrp_epsilon_gamma_box": Entry(
            "rapbench.methods.lrp_composites:LRPEpsilonGammaBox",
            "epsilon in dense layers, gamma in convolutions, z-beta at pixels",
        ),
        "deep_taylor": Entry(
            "rapbench.methods.lrp_composites:DeepTaylor", "deep Taylor decomposition (Montavon et al. 2017)"
        ),
        "deeplift_rescale": Entry(
            "rapbench.methods.deeplift:DeepLiftRescale", "DeepLIFT, Rescale rule (Shrikumar et al. 2017)"
        ),
        "deeplift_reveal_cancel": Entry(
            "rapbench.methods.deeplift:DeepLiftRevealCancel", "DeepLIFT, RevealCancel rule (Shrikumar et al. 2017)"
        ),
        "deeplift": Entry(
            "rapbench.methods.deeplift:DeepLift",
            "DeepLIFT, Rescale behind convolutions, RevealCancel behind dense layers (Shrikumar et al. 2017)",
        ),
        "pattern_net": Entry("rapbench.methods.pattern:PatternNet", "signals projected back (Kindermans et al. 2018)"),
        "pattern_attribution": Entry(
            "rapbench.methods.pattern:PatternAttribution", "relevance along fitted signals (Kindermans et al. 2018)"
        ),
        "pattern_attribution_a": Entry(
            "rapbench.methods.pattern:PatternAttributionA", "the same with the linear estimator S_a"
        ),
        "signal_w": Entry("rapbench.methods.pattern:SignalW", "relevance along the weights, the estimator S_w"),
        "gradient": Entry("rapbench.methods.gradient:Gradient", "magnitude of the gradient (Simonyan et al. 2014)"),
        "input_gradient": Entry("rapbench.methods.gradient:InputGradient", "input times gradient"),
        "integrated_gradients": Entry(
            "rapbench.methods.integrated:IntegratedGradients", "gradients along a path (Sundararajan et al. 2017)"
        ),
        "smooth_grad": Entry("rapbench.methods.smooth_grad:SmoothGrad", "gradients under noise (Smilkov et al. 2017)"),
        "smooth_grad_squared": Entry(
            "rapbench.methods.smooth_grad:SmoothGradSquared", "squared gradients under noise (Hooker et al. 2019)"
        ),
        "deconvnet": Entry("rapbench.methods.guided:DeconvNet", "positive gradients at ReLUs (Zeiler and Fergus 2014)"),
        "guided_backprop": Entry(
            "rapbench.methods.guided:GuidedBackprop", "the same, at active ReLUs only (Springenberg et al. 2015)"
        ),
        "grad_cam": Entry("rapbench.methods.cam:GradCam", "class activation map (Selvaraju et al. 2017)"),
        "guided_grad_cam": Entry("rapbench.methods.cam:GuidedGradCam", "Grad-CAM times Guided Backprop"),
        "grad_cam_plus_plus": Entry("rapbench.methods.cam:GradCamPlusPlus", "Grad-CAM++ (Chattopadhay et al. 2018)"),
        "layer_cam": Entry("rapbench.methods.cam:LayerCam", "gradients at each position (Jiang et al. 2021)"),
        "score_cam": Entry("rapbench.methods.score_cam:ScoreCam", "maps weighted by masked inputs (Wang et al. 2020)"),
        "rise": Entry("rapbench.methods.rise:Rise", "random masks weighted by their scores (Petsiuk et al. 2018)"),
        "raw_attention": Entry("rapbench.methods.attention:RawAttention", "what the class token attends to at last"),
        "attention_rollout": Entry(
            "rapbench.methods.attention:AttentionRollout", "attention through all blocks (Abnar and Zuidema 2020)"
        ),
        "attention_grad_cam": Entry(
            "rapbench.methods.attention:AttentionGradCam", "attention weighed by gradients (Chefer et al. 2021, CVPR)"
        ),
        "chefer_lrp": Entry(
            "rapbench.methods.attention:CheferLRP", "relevance of attention, rolled out (Chefer et al. 2021, CVPR)"
        ),
        "partial_lrp": Entry(
            "rapbench.methods.attention:PartialLRP", "relevance of the last block's attention (Voita et al. 2019)"
        ),
        "chefer_attention": Entry(
            "rapbench.methods.attention:CheferAttention",
            "attention times gradients, rolled out (Chefer et al. 2021, ICCV)",
        ),
        "legrad": Entry("rapbench.methods.attention:LeGrad", "gradients of attention (Bousselham et al. 2025)"),
        "attn_lrp": Entry("rapbench.methods.attention_lrp:AttnLRP", "AttnLRP (Achtibat et al. 2024)"),
        "cp_lrp": Entry("rapbench.methods.attention_lrp:CPLRP", "LRP that holds attention constant (Ali et al. 2022)"),
        "maps": Entry("rapbench.methods.maps:Maps", "maps that were made elsewhere, from files"),
        "random": Entry("rapbench.methods.control:Random", "control: normal noise, seeded per image"),
        "center": Entry("rapbench.methods.control:Center", "control: a square around the image's centre"),
        "edge": Entry("rapbench.methods.control:Edge", "control: contrast, by the Sobel operator"),
        "all_background": Entry("rapbench.methods.control:AllBackground", "control: nothing is relevant"),
        "all_foreground": Entry("rapbench.methods.control:AllForeground", "control: every pixel is equally relevant"),
    },
)


def is_control(name: str) -> bool:
    """Whether a method of that name knows nothing of the network."""
    return name in METHODS and METHODS[name].target.startswith("rapbench.methods.control:")
