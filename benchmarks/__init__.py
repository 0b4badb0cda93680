"""Measurements of draftd beside other programs, printed as ratios. Never tests: a slow machine is no defect."""
