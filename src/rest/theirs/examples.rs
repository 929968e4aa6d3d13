//! Classify and Regress bodies as messages with tf.Examples.
use super::document::Document;
use super::feature::Feature;
use super::names::Names;
use super::refusal::{Code, Refusal};
use crate::rest::chunks::Chunks;
use crate::rest::json::{Event, Kind, Walk};
use crate::wire::Rope;
use crate::wire::emit;

/// A Classify or Regress body as a message.
#[derive(Debug, Clone)]
pub struct Examples {
    /// A `ClassificationRequest` or `RegressionRequest`, which have the same fields.
    pub message: Rope,
    /// The member `signature_name`; empty if there is none. It is the caller's to put it into the
    /// `model_spec`. It need not be UTF-8.
    pub signature_name: Vec<u8>,
    /// How many examples the message has, without the context.
    pub examples: u64,
    pub doubts: Doubts,
}

/// What TF Serving reads otherwise than its client can mean it: the byte offsets of the first such
/// places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubts {
    /// The value of a feature that its example has already. TF Serving takes this one, the last.
    pub doubled: Option<usize>,
    /// A finite number that is beyond float. TF Serving takes an infinity.
    pub overflow: Option<usize>,
}

/// Reads a Classify or Regress body, whose layout and errors are the same.
///
/// `model_spec` gets the member `signature_name` (empty if there is none) and returns the payload
/// of the message's `model_spec`. Numbers are rounded to the nearest float once; TF Serving rounds
/// them to a double before.
///
/// # Errors
/// TF Serving's refusal of the body (`FillClassifyRegressRequestFromJson` in `json_tensor.cc`), or
/// `RESOURCE_EXHAUSTED` if the message would be longer than `max_bytes`.
pub fn examples(
    body: &[u8],
    model_spec: impl FnOnce(&[u8]) -> Vec<u8>,
    max_bytes: usize,
) -> Result<Examples, Refusal> {
    let document = Document::read(body)?;
    let members = document.members();
    let mut writer = Writer::new(document.body(), max_bytes);
    let mut context = None;
    if let Some(at) = members.context {
        let mut field = Chunks::default();
        writer.example(&mut Walk::at(document.body(), at), CONTEXT, &mut field)?;
        context = Some(field);
    }
    let Some(at) = members.examples else {
        return Err(
            document.malformed(" When method is classify, key 'examples' is expected and was not found")
        );
    };
    let mut walk = Walk::at(document.body(), at);
    if walk.peek() != Kind::Array {
        return Err(document.malformed(" Expecting 'examples' value to be an list/array"));
    }
    walk.step();
    if walk.peek() == Kind::End {
        return Err(document.malformed(" 'examples' value is an empty array"));
    }
    let mut list = Chunks::default();
    let mut examples = 0;
    while walk.peek() != Kind::End {
        writer.example(&mut walk, EXAMPLES, &mut list)?;
        writer.limit(list.len())?;
        examples += 1;
    }
    let kind = if let Some(context) = context {
        list.append(context);
        EXAMPLE_LIST_WITH_CONTEXT
    } else {
        EXAMPLE_LIST
    };
    let spec = model_spec(document.signature_name());
    let list = emit::field(kind, list.into_rope(None));
    let mut message = emit::field(MODEL_SPEC, Rope::from(spec));
    message.append(emit::field(INPUT, list));
    writer.limit(message.len())?;
    let signature_name = document.signature_name().to_vec();
    Ok(Examples { message, signature_name, examples, doubts: writer.doubts })
}

/// Whether a body without `examples` has the values of a Predict request.
pub fn is_predict(body: &[u8]) -> bool {
    let members = Document::read(body).map(|document| document.members());
    members
        .is_ok_and(|found| found.examples.is_none() && (found.instances.is_some() || found.inputs.is_some()))
}

/// `ClassificationRequest.model_spec`
const MODEL_SPEC: u32 = 1;
/// `ClassificationRequest.input`
const INPUT: u32 = 2;
/// `Input.example_list`
const EXAMPLE_LIST: u32 = 1;
/// `Input.example_list_with_context`
const EXAMPLE_LIST_WITH_CONTEXT: u32 = 2;
/// `ExampleList.examples` and `ExampleListWithContext.examples`
const EXAMPLES: u32 = 1;
/// `ExampleListWithContext.context`
const CONTEXT: u32 = 2;
/// `Example.features`
const FEATURES: u32 = 1;
/// `Features.feature`, a map
const FEATURE: u32 = 1;

/// Appends the tag and the length of a field with bytes.
fn put_head(out: &mut Vec<u8>, number: u32, length: usize) {
    emit::put_varint(out, u64::from(number << 3 | 2));
    emit::put_varint(out, length as u64);
}

/// The buffers are reused from example to example.
#[derive(Debug)]
struct Writer<'a> {
    body: &'a [u8],
    max_bytes: usize,
    feature: Feature,
    /// One entry of the map of features, or what is before all of them.
    entry: Vec<u8>,
    names: Names,
    doubts: Doubts,
}

impl<'a> Writer<'a> {
    fn new(body: &'a [u8], max_bytes: usize) -> Self {
        Self {
            body,
            max_bytes,
            feature: Feature::default(),
            entry: Vec::new(),
            names: Names::default(),
            doubts: Doubts::default(),
        }
    }

    fn limit(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= self.max_bytes {
            return Ok(());
        }
        let text = format!("the examples take too many bytes (limit {})", self.max_bytes);
        Err(Refusal { code: Code::ResourceExhausted, text: text.into_bytes() })
    }

    /// Reads the next value as a tf.Example, and appends it as a field
    /// (`MakeExampleFromJsonObject`).
    fn example(&mut self, walk: &mut Walk<'a>, number: u32, out: &mut Chunks) -> Result<(), Refusal> {
        let kind = walk.peek();
        if kind != Kind::Object {
            let text = format!("Example must be JSON object but got JSON {}", kind.name());
            return Err(Refusal::invalid(text));
        }
        let mut features = Chunks::default();
        walk.step();
        loop {
            let at = walk.offset();
            let Event::Key(name) = walk.step() else { break };
            let name = name.c_string();
            self.names.push(&name, at);
            self.feature.read(walk, &name)?;
            if let Some(at) = self.feature.overflow() {
                self.doubts.overflow.get_or_insert(at);
            }
            self.entry.clear();
            self.feature.put_entry(&mut self.entry, FEATURE, &name);
            features.extend(&self.entry);
            self.limit(features.len())?;
        }
        if self.doubts.doubled.is_none() {
            self.doubts.doubled = self.names.doubled(self.body);
        }
        // Not needed any more, and as large as the example.
        self.names.clear();
        self.entry.clear();
        match features.len() {
            0 => put_head(&mut self.entry, number, 0),
            length => {
                // The tag of `FEATURES` is one byte.
                put_head(&mut self.entry, number, 1 + emit::varint_size(length as u64) + length);
                put_head(&mut self.entry, FEATURES, length);
            }
        }
        out.extend(&self.entry);
        out.append(features);
        Ok(())
    }
}
