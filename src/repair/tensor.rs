//! Checks one input against its declaration: encoding, dtype and shape, with the rules that fix
//! each.
use super::cast_chain::CastChain;
use super::descriptor::Descriptor;
use super::encoding::{self, Encoded};
use super::policy::SmallInts;
use super::policy::{Limits, Policy};
use super::problem::{Problem, Weight};
use super::reason::Reason;
use super::report::ascii;
use super::rule_key::RuleValues;
use super::rules::SCALAR;
use super::transform::{self, Transforms};
use super::warning::Warning;
use super::{Change, Propose, Repair, Stage, Step, ValueChange};
use crate::signature::TensorInfo;
use crate::tensor::{CastFault, Class, DataType, Exactness, FaultKind, PartialShape};
use crate::wire::rope::Rope;
use crate::wire::tensor::MAX_RANK;
use crate::wire::values::Stop;
use crate::wire::{InputView, TensorView};

/// What a rule of one tensor sees: the tensor as the previous steps left it, and the declaration.
#[derive(Clone, Copy)]
pub(crate) struct TensorCase<'a> {
    pub descriptor: &'a Descriptor,
    pub info: &'a TensorInfo,
    pub policy: &'a Policy,
    pub limits: Limits,
    values: &'a SentValues<'a>,
}

impl std::fmt::Debug for TensorCase<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TensorCase").field("descriptor", self.descriptor).field("info", self.info).finish()
    }
}

/// What a rule of one tensor proposes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Proposal {
    /// The rule does not apply.
    No,
    /// The tensor becomes this.
    Becomes(Descriptor),
    /// The tensor becomes this, and its values change.
    Changes(Descriptor, ValueChange),
    /// The rule would apply, but not to these values: this problem is reported instead of the plain
    /// mismatch.
    Fault(Problem),
}

/// The values as they were sent, and the casts of the steps so far.
pub(super) struct SentValues<'a> {
    pub message: &'a Rope,
    pub tensor: &'a TensorView,
    pub chain: CastChain,
    /// Before the cast to the declared dtype, with the descriptor there, if there is such a cast.
    /// Boxed: nearly no request has it.
    pub uncast: Option<Box<(CastChain, Descriptor)>>,
    /// Whether `uncast` is asked for.
    pub keeps_uncast: bool,
}

/// The plan of one input: the steps, the problems that no step fixes, and the resulting descriptor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorPlan {
    pub steps: Vec<Step>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
    pub descriptor: Descriptor,
}

/// Plans one input. `index` is its index in the scanned request.
pub(super) fn plan(
    message: &Rope,
    sent: &InputView,
    index: usize,
    info: &TensorInfo,
    policy: &Policy,
    limits: Limits,
) -> TensorPlan {
    let own = policy.input(&info.alias);
    if let Some(transforms) = own.and_then(RuleValues::transforms) {
        return transform::plan(message, sent, index, info, policy, limits, transforms);
    }
    let (mut planner, descriptor, problem) = Planner::new(message, sent, index, info, policy, limits);
    // An input of unknown rank is never changed: nothing says what would be correct.
    let scalar = own.is_some_and(|input| input.is_on(&SCALAR));
    let fixed = info.shape == PartialShape::UnknownRank && !scalar;
    let (descriptor, sound) = planner.encoding(descriptor, problem);
    let descriptor = planner.dtype(descriptor, sound, fixed);
    let descriptor = planner.shape(sent, descriptor, sound, fixed);
    planner.finish(descriptor)
}

pub(super) struct Planner<'a> {
    pub info: &'a TensorInfo,
    pub policy: &'a Policy,
    pub limits: Limits,
    pub index: usize,
    pub values: SentValues<'a>,
    pub steps: Vec<Step>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
}

impl<'a> Planner<'a> {
    /// The planner of one input, with its descriptor and what is wrong with its encoding.
    #[inline]
    pub(super) fn new(
        message: &'a Rope,
        sent: &'a InputView,
        index: usize,
        info: &'a TensorInfo,
        policy: &'a Policy,
        limits: Limits,
    ) -> (Self, Descriptor, Option<Problem>) {
        let (descriptor, problem) = match encoding::check(message, sent, &info.alias, policy, limits) {
            Encoded::Sound(descriptor) => (descriptor, None),
            Encoded::Faulty(descriptor, problem) => (descriptor, Some(problem)),
        };
        let chain = CastChain::new(&descriptor);
        let values = SentValues { message, tensor: &sent.tensor, chain, uncast: None, keeps_uncast: false };
        let (steps, problems, warnings) = (Vec::new(), Vec::new(), Vec::new());
        (Self { info, policy, limits, index, values, steps, problems, warnings }, descriptor, problem)
    }

    pub(super) fn finish(self, descriptor: Descriptor) -> TensorPlan {
        let Self { steps, problems, warnings, .. } = self;
        TensorPlan { steps, problems, warnings, descriptor }
    }

    /// The stage of the encoding; whether it is sound now.
    pub(super) fn encoding(
        &mut self,
        descriptor: Descriptor,
        problem: Option<Problem>,
    ) -> (Descriptor, bool) {
        match problem.map(|problem| self.fix(Stage::Encoding, descriptor.clone(), problem)) {
            None => (descriptor, true),
            Some(Ok(descriptor)) => (descriptor, true),
            Some(Err(descriptor)) => (descriptor, false),
        }
    }

    /// The stage of the dtype.
    pub(super) fn dtype(&mut self, mut descriptor: Descriptor, sound: bool, fixed: bool) -> Descriptor {
        let info = self.info;
        if descriptor.dtype != info.dtype && descriptor.dtype.info().is_some() {
            let problem = dtype_problem(info, descriptor.dtype);
            if !sound {
                // The values cannot be read, so it is unknown whether a cast would be exact. The
                // problem is reported only if no cast exists.
                if crate::tensor::relation(descriptor.dtype, info.dtype).is_none() {
                    self.problems.push(problem);
                }
            } else if fixed {
                self.problems.push(problem);
            } else {
                descriptor =
                    self.fix(Stage::Dtype, descriptor, problem).unwrap_or_else(|descriptor| descriptor);
            }
        }
        descriptor
    }

    /// The stage of the shape.
    pub(super) fn shape(
        &mut self,
        sent: &InputView,
        mut descriptor: Descriptor,
        sound: bool,
        fixed: bool,
    ) -> Descriptor {
        let info = self.info;
        let fits = info.shape.accepts(&descriptor.shape)
            && (info.shape != PartialShape::UnknownRank || fixed || descriptor.shape.rank() == 0);
        if descriptor.shape.is_concrete()
            && descriptor.shape.rank() <= MAX_RANK
            && !(sent.tensor.unknown_rank && sent.tensor.shape.rank() == 0 && !sound)
            && !fits
        {
            let problem = Problem::shape(info, &descriptor.shape);
            descriptor = self.fix(Stage::Shape, descriptor, problem).unwrap_or_else(|descriptor| descriptor);
        }
        descriptor
    }

    /// Tries the rules of a stage on one problem, in order. If none fixes it, the problem is
    /// recorded and `Err` returns the unchanged descriptor.
    fn fix(
        &mut self,
        stage: Stage,
        descriptor: Descriptor,
        problem: Problem,
    ) -> Result<Descriptor, Descriptor> {
        if problem.weight == Weight::Shield {
            self.problems.push(problem);
            return Err(descriptor);
        }
        let case = TensorCase {
            descriptor: &descriptor,
            info: self.info,
            policy: self.policy,
            limits: self.limits,
            values: &self.values,
        };
        let (rule, after, values) = match case.first(self.policy.rules.of(stage)) {
            Some((rule, Proposal::Becomes(after))) => (rule, after, None),
            Some((rule, Proposal::Changes(after, values))) => (rule, after, Some(values)),
            other => {
                let problem = match other {
                    Some((_, Proposal::Fault(instead))) => instead,
                    _ => problem,
                };
                let switch = problem.switch.or_else(|| case.switched_off(stage));
                self.problems.push(problem.switch(switch));
                return Err(descriptor);
            }
        };
        // The number of elements is known from here on. Later rules add none, except padding, which
        // has its own limit.
        if stage == Stage::Encoding
            && let Some(problem) = encoding::too_large(&after.shape, &self.info.alias, self.limits)
        {
            self.problems.push(problem);
            return Err(descriptor);
        }
        if stage == Stage::Dtype && is_small_int_for_float(descriptor.dtype, after.dtype) {
            match self.policy.small_ints {
                SmallInts::Allow => {}
                // Numbers that are transformed are scaled as the model takes them.
                SmallInts::Refuse if self.changes_numbers() => {}
                SmallInts::Warn => self.warnings.push(small_ints_warning(self.info, descriptor.dtype)),
                SmallInts::Refuse => {
                    self.problems.push(small_ints_problem(self.info, descriptor.dtype));
                    return Err(descriptor);
                }
            }
        }
        if let Some(ValueChange::Cast(exactness)) = &values
            && let Some(chain) = self.values.chain.then(&descriptor, after.dtype, *exactness)
        {
            if let Some(problem) = self.fills_too_much(&after) {
                self.problems.push(problem);
                return Err(descriptor);
            }
            let before = std::mem::replace(&mut self.values.chain, chain);
            if stage == Stage::Dtype && self.values.keeps_uncast {
                self.values.uncast = Some(Box::new((before, descriptor.clone())));
            }
        } else if stage == Stage::Encoding && values.is_none() {
            // The step determined where the values are.
            self.values.chain = CastChain::new(&after);
        }
        let change = Change::Tensor { before: descriptor, after: after.clone(), values };
        let input = self.info.alias.clone();
        self.steps.push(Step { rule, input, index: Some(self.index), change, fixes: problem });
        Ok(after)
    }

    #[cold]
    fn changes_numbers(&self) -> bool {
        let transforms = self.policy.input(&self.info.alias).and_then(RuleValues::transforms);
        transforms.is_some_and(Transforms::has_numbers)
    }

    /// A tensor that one value fills may be small as it was sent and too large after a cast. That
    /// only matters where the cast is made, so it is no shield.
    fn fills_too_much(&self, after: &Descriptor) -> Option<Problem> {
        let (alias, dtype) = (&self.info.alias, after.dtype.info()?);
        let problem = encoding::claims_too_much(&after.shape, dtype, alias, self.limits, || after.values)?;
        Some(problem.weight(Weight::Plain))
    }
}

impl TensorCase<'_> {
    /// The first of the rules that applies, and what it proposes.
    pub(crate) fn first(
        &self,
        mut rules: impl Iterator<Item = &'static Repair>,
    ) -> Option<(&'static Repair, Proposal)> {
        rules.find_map(|rule| match rule.propose {
            Propose::Tensor(propose) => {
                Some(propose(self)).filter(|found| *found != Proposal::No).map(|found| (rule, found))
            }
            _ => None,
        })
    }

    /// The rule that would change the tensor if it were switched on.
    pub(crate) fn switched_off(&self, stage: Stage) -> Option<&'static Repair> {
        let would = |rule: &&'static Repair| {
            let found = self.first(std::iter::once(*rule));
            matches!(found, Some((_, Proposal::Becomes(_) | Proposal::Changes(..))))
        };
        self.policy.rules.off(stage).find(would)
    }

    /// Checks that every value of the tensor, as the steps so far left it, can be cast to `dtype`.
    ///
    /// # Errors
    /// The problem to report for the first value that cannot.
    pub(crate) fn check_cast(&self, dtype: DataType, exactness: Exactness) -> Result<(), Problem> {
        let alias = &self.info.alias;
        let Some(chain) = self.values.chain.then(self.descriptor, dtype, exactness) else {
            return Err(dtype_problem(self.info, self.descriptor.dtype));
        };
        chain.check(self.values.message, self.values.tensor).map_err(|stop| match stop {
            Stop::Wire(error) => Problem { input: alias.clone(), ..Problem::malformed(&error) },
            Stop::Sink(loss) => cast_problem(alias, loss.to, &loss.fault),
        })
    }

    /// The same values under another descriptor or declaration.
    pub(crate) fn with<'b>(&'b self, descriptor: &'b Descriptor, info: &'b TensorInfo) -> TensorCase<'b> {
        TensorCase { descriptor, info, ..*self }
    }

    /// The tensor as it was sent.
    pub(crate) fn tensor(&self) -> &TensorView {
        self.values.tensor
    }
}

pub(super) fn dtype_problem(info: &TensorInfo, sent: DataType) -> Problem {
    let problem =
        Problem::new(Reason::DtypeMismatch, &info.alias, format!("dtype {sent}, expected {}", info.dtype));
    match (sent, info.dtype) {
        (DataType::STRING, wanted) if wanted != DataType::STRING => {
            problem.hint("this input takes numbers: decode, tokenize or parse the bytes first")
        }
        (_, DataType::STRING) => {
            problem.hint("this input takes bytes, such as text, an encoded image or a serialized tf.Example")
        }
        _ => problem,
    }
}

/// Whether integers of 8 or 16 bits become floats: pixels and PCM samples are such integers, and
/// many models take them scaled.
pub(super) fn is_small_int_for_float(from: DataType, to: DataType) -> bool {
    matches!(from, DataType::INT8 | DataType::UINT8 | DataType::INT16 | DataType::UINT16)
        && to.info().is_some_and(|info| info.class == Class::Float)
}

const SCALE: &str = "if the model takes scaled values, scale them";

pub(super) fn small_ints_problem(info: &TensorInfo, sent: DataType) -> Problem {
    let what = format!("{sent} sent for {}, which may have to be scaled", info.dtype);
    let hint = format!("{SCALE}; send {}", info.dtype);
    Problem::new(Reason::IntegerForFloat, &info.alias, what).hint(hint)
}

fn small_ints_warning(info: &TensorInfo, sent: DataType) -> Warning {
    let reason = Reason::IntegerForFloat;
    let what = format!("{sent} cast to {} without scaling", info.dtype);
    let problem =
        Problem::new(reason, &ascii(&info.alias), what).hint(format!("{SCALE}, and send {}", info.dtype));
    Warning { reason, input: info.alias.clone(), text: problem.to_string() }
}

fn cast_problem(input: &str, dtype: DataType, fault: &CastFault) -> Problem {
    let (reason, why) = match fault.kind {
        FaultKind::OutOfRange => (Reason::CastOutOfRange, "is out of range for"),
        FaultKind::Inexact => (Reason::CastInexact, "cannot be represented exactly in"),
    };
    Problem::of_value(reason, input, &fault.value, format!("at index {} {why} {dtype}", fault.index))
}
