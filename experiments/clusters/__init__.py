"""Do intervals cover when questions differ in difficulty?"""
