"""Does the foretold signal of groups hold in sampled training; is the best size fastest?"""
