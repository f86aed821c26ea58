"""hamgate's recipe: how a bundle is made, and how it is judged.

    data       the honest split: what is read, mended, dropped, kept together
    disguises  what a spammer does to a text, to train on and to judge by
    model      a Llama-family base with LoRA on top, quantised as the recipe says
    train      a flat page: load, build, fit, save
    evaluate   five seeds, intervals, the linear baseline on the same rows
    export     an adapter and its base to a bundle that the worker loads
"""
