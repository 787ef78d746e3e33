"""Do closed form and measured counts agree?"""
