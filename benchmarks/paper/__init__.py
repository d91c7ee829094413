"""The paper's experiment: masked language models of nine domains, and routers among them.

Run from `benchmarks/` as ``python -m paper STEP``. Its modules: `plan` says which experts there
are and how much is measured, `texts` reads the corpora and cuts prompts, `training` trains the
experts, `draws` hides words and measures, `choosing` fits routers and their rivals, `results`
judges them and `page` fills in docs/paper.md.
"""
