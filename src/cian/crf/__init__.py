"""Dense CRF (Krähenbühl & Koltun 2011), on CPUs and GPUs."""

from cian.crf.dense import dense_crf, dense_crfs, image_features, position_features

__all__ = ["dense_crf", "dense_crfs", "image_features", "position_features"]
