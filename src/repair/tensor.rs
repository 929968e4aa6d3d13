//! One input against one declared tensor: encoding, dtype and shape, with the rules that mend each.
use super::encoding::{self, Encoded};
use super::head::{Carried, Head};
use super::policy::Policy;
use super::problem::Problem;
use super::reason::Reason;
use super::{Change, Propose, Repair, Stage, Step, ValueChange};
use crate::signature::TensorInfo;
use crate::tensor::{Cast, CastFault, DataType, Exactness, FaultKind, PartialShape};
use crate::wire::rope::Rope;
use crate::wire::values::{self, Carrier, Stop};
use crate::wire::{InputView, TensorView};

/// What a rule sees: the tensor as the steps before left it, and what is declared.
#[derive(Clone, Copy)]
pub struct TensorCase<'a> {
    pub head: &'a Head,
    pub info: &'a TensorInfo,
    pub policy: &'a Policy,
    values: &'a SentValues<'a>,
}

impl std::fmt::Debug for TensorCase<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TensorCase").field("head", self.head).field("info", self.info).finish()
    }
}

/// What a rule says to a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Proposal {
    /// It is not for this case.
    No,
    /// The tensor becomes this.
    Becomes(Head),
    /// The tensor becomes this, and its values change.
    Changes(Head, ValueChange),
    /// It is for this case, but must not be made: this is what the client is told in place of the plain mismatch.
    Fault(Problem),
}

/// The values as they were sent and the casts that were planned for them so far.
struct SentValues<'a> {
    message: &'a Rope,
    tensor: &'a TensorView,
    casts: Vec<Cast>,
}

/// The plan of one input: the steps that were found, the problems that no step mends, and the shape that it ends with.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorPlan {
    pub steps: Vec<Step>,
    pub problems: Vec<Problem>,
    pub head: Head,
}

/// Plans one input against its declaration. `index` is the input's place in the scanned request.
pub fn plan(message: &Rope, sent: &InputView, index: usize, info: &TensorInfo, policy: &Policy) -> TensorPlan {
    let values = SentValues { message, tensor: &sent.tensor, casts: Vec::new() };
    let mut planner = Planner { info, policy, index, values, steps: Vec::new(), problems: Vec::new() };
    let head = planner.run(sent);
    TensorPlan { steps: planner.steps, problems: planner.problems, head }
}

struct Planner<'a> {
    info: &'a TensorInfo,
    policy: &'a Policy,
    index: usize,
    values: SentValues<'a>,
    steps: Vec<Step>,
    problems: Vec<Problem>,
}

impl Planner<'_> {
    fn run(&mut self, sent: &InputView) -> Head {
        let info = self.info;
        let (mut head, sound) = match encoding::check(self.values.message, sent, &info.alias, self.policy) {
            Encoded::Sound(head) => (head, true),
            Encoded::Faulty(head, problem) => match self.mend(Stage::Encoding, head, problem) {
                Ok(head) => (head, true),
                Err(head) => (head, false),
            },
        };
        // Inputs of unknown rank are taken as they are: nothing says what would be right.
        let fixed = info.shape == PartialShape::UnknownRank;
        if head.dtype != info.dtype && head.dtype.info().is_some() {
            let problem = dtype_problem(info, head.dtype);
            if !sound {
                // The values cannot be read, so whether they would survive a cast is open; only what no cast could mend is said.
                if crate::tensor::relation(head.dtype, info.dtype).is_none() {
                    self.problems.push(problem);
                }
            } else if fixed {
                self.problems.push(problem);
            } else {
                head = self.mend(Stage::Dtype, head, problem).unwrap_or_else(|head| head);
            }
        }
        if head.shape.is_concrete() && !sent.tensor.unknown_rank && !info.shape.accepts(&head.shape) {
            let problem = Problem::shape(info, &head.shape);
            head = self.mend(Stage::Shape, head, problem).unwrap_or_else(|head| head);
        }
        head
    }

    /// Tries the rules of a stage, in their order, on one problem. `Err` gives the head back unmended, with the problem noted.
    fn mend(&mut self, stage: Stage, head: Head, problem: Problem) -> Result<Head, Head> {
        if problem.shield {
            self.problems.push(problem);
            return Err(head);
        }
        for rule in Repair::of(stage) {
            let Propose::Tensor(propose) = rule.propose else { continue };
            if !rule.is_on(self.policy) {
                continue;
            }
            let case = TensorCase { head: &head, info: self.info, policy: self.policy, values: &self.values };
            let (after, values) = match propose(&case) {
                Proposal::No => continue,
                Proposal::Becomes(after) => (after, None),
                Proposal::Changes(after, values) => (after, Some(values)),
                Proposal::Fault(problem) => {
                    self.problems.push(problem);
                    return Err(head);
                }
            };
            if let Some(ValueChange::Cast(exactness)) = values {
                self.values.casts.extend(Cast::new(carried_dtype(&head), after.dtype, exactness));
            }
            let change = Change::Tensor { before: head, after: after.clone(), values };
            let input = self.info.alias.clone();
            self.steps.push(Step { rule, input, index: Some(self.index), change, mends: problem });
            return Ok(after);
        }
        self.problems.push(problem);
        Err(head)
    }
}

impl TensorCase<'_> {
    /// Whether every value of the tensor, as the steps so far leave it, survives a cast to `dtype`; if not, the problem to report.
    pub fn check_cast(&self, dtype: DataType, exactness: Exactness) -> Result<(), Problem> {
        let alias = &self.info.alias;
        let Some(cast) = Cast::new(carried_dtype(self.head), dtype, exactness) else {
            return Err(dtype_problem(self.info, self.head.dtype));
        };
        let mut casts = self.values.casts.clone();
        casts.push(cast);
        check_values(self.values.message, self.values.tensor, self.head, &casts).map_err(|stop| match stop {
            Stop::Wire(error) => Problem { input: alias.clone(), ..Problem::malformed(&error) },
            Stop::Sink(fault) => cast_problem(alias, dtype, &fault),
        })
    }
}

/// The dtype that the carried bytes have by themselves: a foreign list's own, else the head's.
pub(super) fn carried_dtype(head: &Head) -> DataType {
    match head.carried {
        Carried::List(list) if head.dtype.info().is_none_or(|info| info.list != list) => list.native().unwrap_or(head.dtype),
        Carried::List(list) => wide_list_dtype(list, head.dtype),
        Carried::Content | Carried::Nothing => head.dtype,
    }
}

/// `int_val` carries the small integers, as int32; everywhere else a dtype's own list has its own elements.
fn wide_list_dtype(list: crate::tensor::ValueList, dtype: DataType) -> DataType {
    match list.native() {
        Some(native) if list == crate::tensor::ValueList::Int => native,
        _ => dtype,
    }
}

/// Runs all carried values through casts without keeping any. The last cast's faults are the caller's; an earlier one's too: all were
/// planned to hold.
fn check_values(message: &Rope, tensor: &TensorView, head: &Head, casts: &[Cast]) -> Result<(), Stop<CastFault>> {
    let mut done = 0;
    let mut scratch = [Vec::new(), Vec::new()];
    read_carried(message, tensor, head, &mut |block| {
        let first = casts.first().map_or(1, Cast::from_size).max(1);
        let result = run_block(block, casts, &mut scratch, done);
        done += block.len() / first;
        result
    })
}

fn run_block(block: &[u8], casts: &[Cast], scratch: &mut [Vec<u8>; 2], done: usize) -> Result<(), CastFault> {
    let Some((first, rest)) = casts.split_first() else { return Ok(()) };
    let locate = |fault: CastFault| CastFault { index: fault.index + done, ..fault };
    first.check(block).map_err(locate)?;
    if rest.is_empty() {
        return Ok(());
    }
    // Two casts in a row are rare (values in a foreign field, of a foreign dtype): only these need the values in between.
    scratch[0].clear();
    first.convert(block, &mut scratch[0]);
    for cast in rest {
        cast.check(&scratch[0]).map_err(locate)?;
        scratch[1].clear();
        cast.convert(&scratch[0], &mut scratch[1]);
        scratch.swap(0, 1);
    }
    Ok(())
}

/// Reads the values that a head says are carried, in blocks of whole elements of [`carried_dtype`].
pub(super) fn read_carried<E>(
    message: &Rope,
    tensor: &TensorView,
    head: &Head,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let carrier = match head.carried {
        Carried::Nothing => return Ok(()),
        Carried::Content => Carrier::Content { size: head.dtype.size().unwrap_or(1) },
        Carried::List(list) => Carrier::List(list),
    };
    values::read(message, tensor, carrier, sink)
}

pub(super) fn dtype_problem(info: &TensorInfo, sent: DataType) -> Problem {
    let problem = Problem::new(Reason::DtypeMismatch, &info.alias, format!("dtype {sent}, expected {}", info.dtype));
    match (sent, info.dtype) {
        (DataType::STRING, wanted) if wanted != DataType::STRING => {
            problem.hint("this input takes numbers: decode, tokenize or parse the bytes first")
        }
        (_, DataType::STRING) => problem.hint("this input takes bytes, such as text, an encoded image or a serialized tf.Example"),
        _ => problem,
    }
}

fn cast_problem(input: &str, dtype: DataType, fault: &CastFault) -> Problem {
    let (reason, why) = match fault.kind {
        FaultKind::OutOfRange => (Reason::CastOutOfRange, "is out of range for"),
        FaultKind::Inexact => (Reason::CastInexact, "has no exact counterpart in"),
    };
    Problem::new(reason, input, format!("value {} at index {} {why} {dtype}", fault.value, fault.index))
}
