"""Dense CRF (Krähenbühl & Koltun 2011), on CPUs and GPUs."""

from cian.crf.dense import dense_crf, dense_crfs

__all__ = ["dense_crf", "dense_crfs"]
