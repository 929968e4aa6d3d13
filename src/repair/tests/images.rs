//! Image files: the pixels are those of TensorFlow's decoders, and what is no image is refused.
use prost::Message as _;

use super::transforms::{declared, made};
use super::transforms_golden::{bytes, with};
use super::*;
use crate::proto::tensorflow::serving::PredictRequest;
use crate::tensor::Shape;

#[derive(serde::Deserialize)]
struct Line {
    name: String,
    channels: String,
    shape: [i64; 3],
    file: String,
    pixels: String,
    exact: String,
    size: [i64; 2],
    resized: String,
}

fn lines() -> Vec<Line> {
    let text = include_str!("../../../tests/fixtures/transforms/images.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A request with these files for an input of `dtype[-1,shape]`.
fn files(dtype: &str, shape: &[i64], options: &str, files: &[&[u8]]) -> Case {
    let shape: Shape = [-1].into_iter().chain(shape.iter().copied()).collect();
    let request = format!("x:string[{}]{{a}}", files.len());
    let case = declared(&format!("x:{dtype}{shape}"), &request, &format!("transform: [{options}]"));
    let mut tensor = PredictRequest::decode(case.message.to_bytes()).unwrap().inputs.remove("x").unwrap();
    tensor.string_val = files.iter().map(|file| file.to_vec().into()).collect();
    with(case, tensor)
}

fn furthest(got: &[u8], want: &[u8]) -> u8 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(got, want)| got.abs_diff(*want)).max().unwrap()
}

#[test]
fn pixels_are_those_of_tensorflow() {
    let (mut default, mut exact, mut others) = (0, 0, 0);
    for line in lines() {
        let options = format!("{{decode_image: {{channels: {}}}}}", line.channels);
        let case = files("uint8", &line.shape, &options, &[&bytes(&line.file)]);
        assert!(case.judge().problems.is_empty(), "{}: {}", line.name, case.says());
        let pixels = made(&case).tensor_content;
        let differs = (furthest(&pixels, &bytes(&line.pixels)), furthest(&pixels, &bytes(&line.exact)));
        if line.name.starts_with("jpeg") {
            (default, exact) = (default.max(differs.0), exact.max(differs.1));
        } else {
            others = others.max(differs.0);
        }
    }
    // docs/preprocessing.md states them: TensorFlow decodes JPEG less exactly by default.
    assert_eq!((default, exact, others), (8, 4, 0));
}

#[test]
fn images_are_resized_as_tensorflow_does() {
    for line in lines().iter().filter(|line| line.name.starts_with("png")) {
        let options = format!("{{decode_image: {{resize: bilinear, channels: {}}}}}", line.channels);
        let shape = [line.size[0], line.size[1], line.shape[2]];
        let case = files("float", &shape, &options, &[&bytes(&line.file)]);
        assert_eq!(made(&case).tensor_content, bytes(&line.resized), "{}: {}", line.name, case.says());
    }
}

#[test]
fn files_become_a_batch_that_is_scaled_and_moved() {
    let lines = lines();
    let png = lines.iter().find(|line| line.name == "png").unwrap();
    let (file, [height, width, _]) = (bytes(&png.file), png.shape);
    let options = "{decode_image: on}, {transpose: [0, 3, 1, 2]}, {scale: {factor: 0.5, offset: 1}}";
    let case = files("float", &[3, height, width], options, &[&file, &file]);
    let before = format!("[2,{height},{width},3]");
    assert_eq!(
        case.says(),
        format!(
            "x;decode_image;string->float lossy x;transpose;{before}->[2,3,{height},{width}] x;scale;x->x*0.5+1"
        )
    );
    let tensor = made(&case);
    let got = f32::from_le_bytes(tensor.tensor_content[..4].try_into().unwrap());
    assert_eq!(got, f32::from(bytes(&png.pixels)[0]) * 0.5 + 1.0);
    let green = (height * width) as usize * 4;
    let got = f32::from_le_bytes(tensor.tensor_content[green..green + 4].try_into().unwrap());
    assert_eq!(got, f32::from(bytes(&png.pixels)[1]) * 0.5 + 1.0);
    let view = PredictView::scan(&case.message).unwrap();
    let plan = case.judge().plan;
    assert!(cost(&view, &plan).memory > tensor.tensor_content.len() as u64 * 2);
    // Pixels that were decoded by the client are only scaled.
    let pixels = declared(
        "x:float[-1,1,1,3]",
        "x:uint8[1,1,1,3]{1,2,3}",
        "transform: [{decode_image: on}, {scale: {factor: 0.5}}]",
    );
    assert_eq!(pixels.says(), "x;cast_widen;uint8->float x;scale;x->x*0.5");
    // Its own size, where the model takes any.
    let any = files("uint8", &[-1, -1, 3], "{decode_image: on}", &[&file]);
    assert_eq!(made(&any).tensor_content, bytes(&png.pixels));
}

#[test]
fn what_is_no_image_of_the_size_is_refused() {
    let lines = lines();
    let file = bytes(&lines.iter().find(|line| line.name == "png").unwrap().file);
    let mut huge = file.clone();
    // The width in the header, and its checksum, which the decoder may not look at first.
    huge[16..20].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    for (files_of, why) in [
        (vec![&b"hello"[..]], "string 0 is no JPEG, PNG or WebP file"),
        (vec![&file[..], &file[..40]], "string 1 is a damaged image file"),
        (vec![&huge[..]], "string 0 is a"),
        (vec![&file[..]], "string 0 is an image of another size, and `resize` is off"),
    ] {
        let case = files(
            "uint8",
            if why.contains("size") { &[9, 9, 3] } else { &[-1, -1, 3] },
            "{decode_image: on}",
            &files_of,
        );
        let text = case.says();
        assert!(text.contains(&format!("not decoded: {why}")) && text.contains("NOT_TRANSFORMED"), "{text}");
    }
}
