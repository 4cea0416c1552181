"""Multi-view images, exact correspondences and cross-modal training for 3D shapes."""

__version__ = "0.1.0"
