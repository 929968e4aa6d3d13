//! Target `image_door`: arbitrary bytes as an image file that a transform decodes. There is no
//! panic, and a file that the plan takes has the pixels that the plan says.
use tfs_sidecar::repair::transform::{Channels, Image, Resize, Transform, Transforms};
use tfs_sidecar::repair::{Limits, ModelPolicy, Request, RuleValue, TRANSFORM, apply, cost, judge, notation};
use tfs_sidecar::tensor::{DataType, Shape, ValueList};
use tfs_sidecar::wire::{PredictView, Rope, emit};

/// The first byte is the options, and the rest is the file.
pub fn image_door(data: &[u8]) {
    let [switches, file @ ..] = data else { return };
    let channels = [Channels::Rgb, Channels::Bgr, Channels::Gray][usize::from(switches & 3) % 3];
    let depth = if channels == Channels::Gray { 1 } else { 3 };
    let resize = if switches & 4 == 0 { Resize::Off } else { Resize::Bilinear };
    let dtype = ["uint8", "float", "half", "double"][usize::from(switches >> 3 & 3)];
    let size = if resize == Resize::Off { "-1,-1" } else { "3,2" };
    let mut list = vec![Transform::DecodeImage(Image { resize, channels })];
    if switches & 32 != 0 {
        list.push(Transform::DecodeBase64);
    }
    if switches & 64 != 0 {
        list.push(Transform::Transpose([0, 3, 1, 2].into()));
    }
    let shape =
        if switches & 64 == 0 { format!("[-1,{size},{depth}]") } else { format!("[-1,{depth},{size}]") };
    let signatures = notation::signature(&format!("x:{dtype}{shape}")).expect("in the notation");
    let mut policy = ModelPolicy::default();
    let declared = RuleValue::Transforms(Transforms { list, bound: None });
    policy.defaults.inputs.entry("x".to_owned()).or_default().set(&TRANSFORM, declared);

    let mut message = notation::request("m", "").expect("in the notation");
    let string = emit::list(ValueList::String, Rope::from(file.to_vec()));
    let tensor = emit::new_tensor(DataType::STRING, &Shape::from([1]), &string);
    let mut entry = vec![0x0a, 1, b'x', 0x12];
    emit::put_varint(&mut entry, tensor.len() as u64);
    entry.extend_from_slice(&tensor);
    let mut field = vec![0x12];
    emit::put_varint(&mut field, entry.len() as u64);
    field.extend(entry);
    message.append(Rope::from(field));

    let view = PredictView::scan(&message).expect("a request");
    let request = Request {
        message: &message,
        view: &view,
        signatures: &signatures,
        policy: &policy,
        limits: Limits::default(),
        raised: None,
        text: None,
    };
    let verdict = judge(&request);
    if !verdict.problems.is_empty() {
        return;
    }
    let taken = cost(&view, &verdict.plan);
    let made = apply(&message, &view, &verdict.plan).expect("the plan can be made");
    let after = PredictView::scan(&made).expect("a request");
    let tensor = &after.input("x").expect("the input stays").tensor;
    let elements = tensor.shape.elements().expect("a concrete shape");
    let bytes = elements * tensor.dtype.size().expect("numbers") as u64;
    assert_eq!(tensor.content.as_ref().map_or(0, |content| content.len()) as u64, bytes);
    assert!(taken.memory >= bytes && taken.values <= bytes, "{taken:?} {bytes}");
}
