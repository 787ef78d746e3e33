"""How fast is this device, by kind of operator?"""
