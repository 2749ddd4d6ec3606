"""The experiments of the studies: plain functions from models and samples to tidy tables, called and shown by the notebooks."""
