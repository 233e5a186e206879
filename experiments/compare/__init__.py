"""Do paired comparisons of models hold?"""
