//! Decodes image files to pixels.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "decode_image",
    tier: Tier::Three,
    switch: Switch::Transform("decode_image: {resize: bilinear, channels: rgb}"),
    stage: Stage::Transform,
    lossy: true,
    when: "The input has `decode_image: {resize: off | bilinear, channels: rgb | bgr | gray}` and was sent as strings: each is a JPEG, PNG or WebP file and becomes pixels from 0 to 255 in the declared `[N,height,width,channels]`, uint8 or float. Only in programs that are built with the feature `image`.",
    example: Example {
        signature: "image:uint8[-1,1,2,3]",
        request: "image:string[1]{iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR42mP438DA4PAfAAoAAr8/aGGEAAAAAElFTkSuQmCC}",
        becomes: "image:uint8[1,1,2,3]{255,128,0,0,64,255}",
        policy: "inputs: {image: {transform: [{decode_base64: on}, {decode_image: on}]}}",
    },
    propose: Propose::Declared,
};
