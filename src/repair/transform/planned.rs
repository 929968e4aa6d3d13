//! Plans one input with declared transforms: the stages of every input, with the transforms between
//! them.
use super::made::{self, Made};
use super::pass::{Overflow, Pass};
use super::raw::{Evidence, MAX_ROW, Side};
use super::strings::Unfit;
use super::suits::{pixels, unsuited, unsuited_features};
use super::{Phase, Transform, Transforms, When, before_transpose, images, strings};
use crate::repair::descriptor::{Descriptor, Encoding};
use crate::repair::policy::{Limits, Policy, SmallInts};
use crate::repair::report::ascii;
use crate::repair::tensor::{Planner, TensorPlan, is_small_int_for_float, small_ints_problem};
use crate::repair::{Change, Problem, Reason, RuleValues, Step, ValueChange, Warning};
use crate::signature::TensorInfo;
use crate::tensor::{DataType, Exactness, PartialShape, Shape, ValueList};
use crate::wire::values::Stop;
use crate::wire::{InputView, Rope, WireError};

/// Elements of a tensor that one value fills, where each becomes another number. A message of a few
/// bytes must not become a large one.
const MAX_FILLED: u64 = 1 << 20;

/// Plans one input. `index` is its index in the scanned request.
pub(in crate::repair) fn plan(
    message: &Rope,
    sent: &InputView,
    index: usize,
    info: &TensorInfo,
    policy: &Policy,
    limits: Limits,
    transforms: &Transforms,
) -> TensorPlan {
    let run = |seen: &TensorInfo, moves: bool| {
        let (mut planner, descriptor, problem) = Planner::new(message, sent, index, seen, policy, limits);
        planner.values.keeps_uncast = true;
        let mut stages = Stages { planner, sent, declared: info, transforms, moves, decoded: false };
        let descriptor = stages.run(descriptor, problem);
        stages.planner.finish(descriptor)
    };
    let before = transforms.axes().and_then(|axes| before_transpose(info.shape.dims()?, axes));
    let Some(before) = before.filter(|_| unsuited(transforms, info).is_none()) else {
        return run(info, false);
    };
    let moved = run(&TensorInfo { shape: PartialShape::Known(before), ..info.clone() }, true);
    if moved.problems.is_empty() {
        return moved;
    }
    // A client that sends the axes as they are declared need not change.
    let straight = run(info, false);
    if straight.problems.is_empty() { straight } else { moved }
}

struct Stages<'a> {
    planner: Planner<'a>,
    sent: &'a InputView,
    declared: &'a TensorInfo,
    transforms: &'a Transforms,
    /// Whether the axes are moved.
    moves: bool,
    /// Whether the values are pixels of files, which are not in the message.
    decoded: bool,
}

impl Stages<'_> {
    fn run(&mut self, descriptor: Descriptor, problem: Option<Problem>) -> Descriptor {
        let (mut descriptor, sound) = self.planner.encoding(descriptor, problem);
        let unsuited = unsuited(self.transforms, self.declared);
        if sound && unsuited.is_none() {
            descriptor = self.decode(descriptor);
        }
        let fixed = self.declared.shape == PartialShape::UnknownRank;
        let descriptor = self.planner.dtype(descriptor, sound, fixed);
        let descriptor = self.planner.shape(self.sent, descriptor, sound, fixed);
        if let Some(why) = unsuited {
            self.leave(&why);
            self.refuse_small_ints();
            return descriptor;
        }
        if !self.planner.problems.is_empty() || !(self.moves || self.transforms.has_numbers()) {
            return descriptor;
        }
        self.change(descriptor)
    }

    /// Says that the input stays as it is.
    fn leave(&mut self, why: &str) {
        let (reason, input) = (Reason::NotTransformed, self.declared.alias.clone());
        let text = Problem::new(reason, &ascii(&input), format!("not transformed: {why}")).to_string();
        if self.planner.warnings.iter().all(|warning| warning.text != text) {
            self.planner.warnings.push(Warning { reason, input, text });
        }
    }

    fn step(&mut self, transform: &Transform, change: Change) {
        let input = self.declared.alias.clone();
        let what = format!("the configuration declares `{}`", transform.name());
        let fixes = Problem::new(Reason::NotTransformed, &input, what);
        let index = Some(self.planner.index);
        self.planner.steps.push(Step { rule: transform.rule(), input, index, change, fixes });
    }

    /// The transforms before the check of the dtype.
    fn decode(&mut self, mut descriptor: Descriptor) -> Descriptor {
        let transforms = self.transforms;
        for transform in transforms.of(Phase::Decode) {
            let Transform::RelabelDtype { from, to } = transform else { continue };
            if descriptor.dtype != *from || descriptor.encoding == Encoding::Nothing {
                continue;
            }
            let Some(chain) = self.planner.values.chain.relabelled(&descriptor, *to) else {
                self.leave(&format!("the bytes of {from} cannot be read as {to}"));
                continue;
            };
            // A list of the old dtype is read to its end, where a varint may be out of range.
            if let Err(why) = self.readable(&chain) {
                self.planner.problems.push(why);
                return descriptor;
            }
            self.planner.values.chain = chain;
            let after = descriptor.with_dtype(*to);
            let made = Made { transform: transform.clone(), numbers: None, scratch: 0 };
            let values = Some(ValueChange::Transform(made));
            self.step(transform, Change::Tensor { before: descriptor, after: after.clone(), values });
            descriptor = after;
        }
        let texts = [Transform::DecodeBase64, Transform::Lowercase];
        let texts: Vec<&Transform> =
            texts.iter().filter_map(|text| transforms.list.iter().find(|one| *one == text)).collect();
        if descriptor.dtype != DataType::STRING || descriptor.values == 0 {
            return descriptor;
        }
        let image = transforms.of(Phase::Decode).find(|one| matches!(one, Transform::DecodeImage(_)));
        if let Some(image) = image.filter(|_| self.declared.dtype != DataType::STRING) {
            return self.decode_images(&texts, image, descriptor);
        }
        if !texts.is_empty() {
            descriptor = self.decode_strings(&texts, descriptor);
        }
        descriptor
    }

    /// Where the strings of the input are, after the repairs of its encoding.
    fn strings(&self, descriptor: &Descriptor) -> strings::Source {
        let is_whole = |step: &Step| {
            matches!(step.change, Change::Tensor { values: Some(ValueChange::ContentToString), .. })
        };
        made::source(descriptor, self.planner.steps.iter().any(is_whole))
    }

    fn unreadable(&mut self, error: &WireError) {
        let problem = Problem::malformed(error);
        self.planner.problems.push(Problem { input: self.declared.alias.clone(), ..problem });
    }

    fn decode_images(
        &mut self,
        texts: &[&Transform],
        image: &Transform,
        descriptor: Descriptor,
    ) -> Descriptor {
        let (Transform::DecodeImage(options), Some(declared)) =
            (image, pixels(self.transforms, self.declared))
        else {
            return descriptor;
        };
        let source = self.strings(&descriptor);
        let (message, tensor) = (self.planner.values.message, self.planner.values.tensor);
        // A client may send the file itself where others send it in base64.
        let texts = match strings::check(message, tensor, source, texts) {
            Ok(()) => texts,
            Err(_) => &[],
        };
        let all = descriptor.shape.elements() == Ok(descriptor.values);
        let planned = match images::plan(message, tensor, source, texts, *options, declared) {
            Ok(planned) if all => planned,
            Ok(_) => {
                self.leave("one string stands for several images");
                return descriptor;
            }
            Err(Stop::Wire(error)) => {
                self.unreadable(&error);
                return descriptor;
            }
            Err(Stop::Sink(Unfit { index, why })) => {
                let what = format!("not decoded: string {index} is {why}");
                let problem = Problem::new(Reason::NotTransformed, &self.declared.alias, what);
                self.planner.problems.push(problem);
                return descriptor;
            }
        };
        let mut before = descriptor;
        for text in texts {
            let mut after = before.clone();
            after.encoding = Encoding::List(ValueList::String);
            let made = Made { transform: (*text).clone(), numbers: None, scratch: 0 };
            let values = Some(ValueChange::Transform(made));
            self.step(text, Change::Tensor { before, after: after.clone(), values });
            before = after;
        }
        let mut after = before.with_dtype(self.declared.dtype).with_shape(planned.shape);
        (after.encoding, after.values) = (Encoding::Content, after.shape.elements().unwrap_or(0));
        let made = Made { transform: image.clone(), numbers: None, scratch: planned.scratch };
        let values = Some(ValueChange::Transform(made));
        self.step(image, Change::Tensor { before, after: after.clone(), values });
        self.decoded = true;
        after
    }

    fn decode_strings(&mut self, texts: &[&Transform], mut descriptor: Descriptor) -> Descriptor {
        let source = self.strings(&descriptor);
        let (message, tensor) = (self.planner.values.message, self.planner.values.tensor);
        match strings::check(message, tensor, source, texts) {
            Ok(()) => {}
            Err(Stop::Wire(error)) => {
                self.unreadable(&error);
                return descriptor;
            }
            Err(Stop::Sink(unfit)) => {
                self.leave(&format!("string {} is {}", unfit.index, unfit.why));
                return descriptor;
            }
        }
        for transform in texts {
            let mut after = descriptor.clone();
            after.encoding = Encoding::List(ValueList::String);
            let made = Made { transform: (*transform).clone(), numbers: None, scratch: 0 };
            let values = Some(ValueChange::Transform(made));
            self.step(transform, Change::Tensor { before: descriptor, after: after.clone(), values });
            descriptor = after;
        }
        descriptor
    }

    fn readable(&self, chain: &crate::repair::cast_chain::CastChain) -> Result<(), Problem> {
        let alias = &self.declared.alias;
        chain.check(self.planner.values.message, self.planner.values.tensor).map_err(|stop| match stop {
            Stop::Wire(error) => Problem { input: alias.clone(), ..Problem::malformed(&error) },
            Stop::Sink(loss) => {
                let what = format!("at index {} is out of range for {}", loss.fault.index, loss.to);
                Problem::of_value(Reason::CastOutOfRange, alias, &loss.fault.value, what)
            }
        })
    }

    /// Moves the axes and changes the numbers.
    fn change(&mut self, mut descriptor: Descriptor) -> Descriptor {
        let axes = self.transforms.axes().filter(|_| self.moves);
        let numbers = match self.numbers(&descriptor) {
            Ok(numbers) => numbers,
            Err(why) => {
                self.leave(&why);
                self.refuse_small_ints();
                return descriptor;
            }
        };
        let Some(numbers) = numbers else { return descriptor };
        let moved = axes.map_or_else(|| descriptor.shape.clone(), |axes| permuted(&descriptor.shape, axes));
        if descriptor.encoding == Encoding::Nothing {
            // No values, so that only the axes change.
            if let Some(transform) = self.transforms.of(Phase::Transpose).next().filter(|_| self.moves) {
                let after = descriptor.with_shape(moved);
                self.step(
                    transform,
                    Change::Tensor { before: descriptor, after: after.clone(), values: None },
                );
                descriptor = after;
            }
            return descriptor;
        }
        let Some(pass) =
            Pass::new(numbers.clone(), axes.map(|axes| &axes[..]), &descriptor.shape, descriptor.dtype)
        else {
            self.leave("its dtype has no numbers");
            return descriptor;
        };
        let elements = descriptor.shape.elements().unwrap_or(0);
        let (mut encoding, mut values) = (Encoding::Content, elements);
        if descriptor.values < elements {
            if descriptor.values == 1 && pass.is_uniform() {
                (encoding, values) = (descriptor.encoding, 1);
            } else if elements > MAX_FILLED {
                let what = format!("{} value(s) for the {elements} elements of {moved}", descriptor.values);
                let hint = "send all values: a declared transform makes each another one";
                let problem = Problem::new(Reason::TooLarge, &self.declared.alias, what).hint(hint);
                self.planner.problems.push(problem);
                return descriptor;
            }
        }
        if let Err(problem) = self.check(pass, &descriptor) {
            self.planner.problems.push(problem);
            return descriptor;
        }
        let mut numbers = numbers.into_iter();
        let transforms = self.transforms;
        let moves = axes.and_then(|_| transforms.of(Phase::Transpose).next());
        for transform in moves.into_iter().chain(transforms.of(Phase::Numbers)) {
            let mut after = descriptor.clone();
            (after.encoding, after.values) = (encoding, values);
            let is_move = transform.phase() == Phase::Transpose;
            if is_move {
                after.shape = moved.clone();
            }
            let made = Made {
                transform: transform.clone(),
                numbers: if is_move { None } else { numbers.next() },
                scratch: 0,
            };
            let change = Some(ValueChange::Transform(made));
            self.step(transform, Change::Tensor { before: descriptor, after: after.clone(), values: change });
            descriptor = after;
        }
        if self.transforms.has_numbers() {
            // What the warning doubts is declared.
            self.planner.warnings.retain(|warning| warning.reason != Reason::IntegerForFloat);
        }
        descriptor
    }

    /// What is done to the numbers. `None`: the values are as the model takes them.
    fn numbers(&mut self, descriptor: &Descriptor) -> Result<Option<Vec<super::Numbers>>, String> {
        let Some(numbers) = self.transforms.numbers() else {
            return Err("the profile has neither a scaler nor a raw side, or is not read".to_owned());
        };
        if let Some(why) = unsuited_features(self.transforms, last(&descriptor.shape, self.moved())) {
            return Err(why);
        }
        if numbers.is_empty() || self.when() == When::Always || descriptor.encoding == Encoding::Nothing {
            return Ok(Some(numbers));
        }
        match self.side(descriptor)? {
            Side::Raw => Ok(Some(numbers)),
            Side::Scaled => Ok(None),
            Side::Unclear => {
                Err("the values are not certain to be raw, nor to be as the model takes them".to_owned())
            }
        }
    }

    fn when(&self) -> When {
        self.planner.policy.input(&self.declared.alias).map_or(When::Always, RuleValues::when)
    }

    fn moved(&self) -> Option<&[usize]> {
        self.transforms.axes().filter(|_| self.moves).map(|axes| &axes[..])
    }

    fn side(&self, descriptor: &Descriptor) -> Result<Side, String> {
        let bound = self.transforms.bound.as_ref();
        let Some(ratio) = bound.and_then(|bound| bound.ratio.as_ref()) else {
            return Err("the profile has no raw side, or is not read".to_owned());
        };
        let elements = descriptor.shape.elements().unwrap_or(0);
        let rows = descriptor.shape.first().map_or(1, |rows| rows.unsigned_abs()).max(1);
        let row = usize::try_from(elements / rows).unwrap_or(usize::MAX);
        if descriptor.values < elements || row > MAX_ROW || self.decoded || self.is_padded() {
            return Ok(Side::Unclear);
        }
        let mut evidence = Evidence::new(ratio, row);
        let Some(chain) = self.doubles(descriptor) else { return Ok(Side::Unclear) };
        let read = chain.stream(self.planner.values.message, self.planner.values.tensor, &mut |block| {
            evidence.feed(block)
        });
        // Values that cannot be read are a problem of the check, and rows that disagree are
        // unclear.
        drop(read);
        Ok(evidence.side())
    }

    fn is_padded(&self) -> bool {
        let steps = &self.planner.steps;
        steps
            .iter()
            .any(|step| matches!(step.change, Change::Tensor { values: Some(ValueChange::Pad(_)), .. }))
    }

    /// The values as float64, cast once.
    fn doubles(&self, descriptor: &Descriptor) -> Option<crate::repair::cast_chain::CastChain> {
        let values = &self.planner.values;
        let (chain, before) = match values.uncast.as_deref() {
            Some((chain, before)) => (chain, before),
            None => (&values.chain, descriptor),
        };
        chain.then(before, DataType::DOUBLE, Exactness::Round)
    }

    fn check(&self, mut pass: Pass, descriptor: &Descriptor) -> Result<(), Problem> {
        if self.decoded || !pass.takes_doubles() {
            return Ok(());
        }
        let alias = &self.declared.alias;
        let unreadable = || Problem::new(Reason::DtypeMismatch, alias, "the values are no numbers");
        let chain = self.doubles(descriptor).ok_or_else(unreadable)?;
        let read = chain
            .stream(self.planner.values.message, self.planner.values.tensor, &mut |block| pass.check(block));
        read.map_err(|stop| match stop {
            Stop::Wire(error) => Problem { input: alias.clone(), ..Problem::malformed(&error) },
            Stop::Sink(Overflow { index }) => {
                let dtype = descriptor.dtype;
                let what = format!("the value at index {index} is out of range for {dtype} when transformed");
                Problem::new(Reason::CastOutOfRange, alias, what)
            }
        })
    }

    /// Small integers were let through to be scaled, and are not.
    fn refuse_small_ints(&mut self) {
        let sent = self.sent.tensor.dtype;
        if self.planner.policy.small_ints == SmallInts::Refuse
            && is_small_int_for_float(sent, self.declared.dtype)
        {
            self.planner.problems.push(small_ints_problem(self.declared, sent));
        }
    }
}

/// The size of the last axis after the axes are moved.
fn last(shape: &Shape, axes: Option<&[usize]>) -> Option<i64> {
    match axes {
        Some(axes) => shape.get(*axes.last()?).copied(),
        None => shape.last().copied(),
    }
}

fn permuted(shape: &Shape, axes: &[usize]) -> Shape {
    axes.iter().map(|axis| shape.get(*axis).copied().unwrap_or(1)).collect()
}
