"""Random changes of training images, each a pure function of (seed, epoch, index of the sample).

vocabulary      the words of a recipe, such as `crop=4`, and what they may say; no torch
chance          random numbers that need no generator
geometry        flip, crop, shift, rotate, affine, perspective, resized-crop
pixels          cutout, erase, grayscale
filters         blur, sharpness, contrast
colour          color-jitter, by kornia
policies        randaugment, trivialaugment
mixing          mixup, cutmix
pipeline        all of it, one after the other
"""
