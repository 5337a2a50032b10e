"""A run's rounds in the formats that other training loops read: Megatron, nanoGPT, MosaicML, Hugging Face, Parquet."""

from prereq.selector.export.write import FORMATS, Exported, ExportRequest, export

__all__ = ["FORMATS", "ExportRequest", "Exported", "export"]
