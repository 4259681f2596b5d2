"""Gates: may this exchange run?"""
