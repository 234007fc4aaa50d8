"""Draw the procedural benchmark: textures and objects with exact defect masks, the same pixels on every machine.

    image, mask = render("leather", seed=7, defect="cut", strength=0.6)
"""
from rdlib.synthetic.scenes import CATEGORIES, DEFECTS, MIN_SIZE, OBJECTS, TEXTURES, Scene, render, scene_list

__all__ = ["CATEGORIES", "DEFECTS", "MIN_SIZE", "OBJECTS", "TEXTURES", "Scene", "render", "scene_list"]
