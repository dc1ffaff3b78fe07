//! The undertaker: clears up after the pager of another cluster that died, stage by stage as the root pager says
//! ([`skerry_ipc::root::Stage`]).
//!
//! Tasks that depend on the dead pager end. Their threads, places and pages may be in the middle of something that it was about to do, so
//! that is not completed: their spaces are destroyed where they are, with all threads in them, and what they had goes the way of every task
//! that is over ([`super::life`]). A task that was at home with the dead pager is adopted by the first cluster that lives. Of other tasks the dead
//! one may have led pages, whose entries are put back as they were (the goal `Recover` of [`Lead`]); frames that it had in hand
//! are found by their records ([`Reclaim`]).
//!
//! It is more urgent than pager threads, and waits by looking again: nobody else need know of it. Between two
//! stages it looks at nothing ([`grace::leave`]).
//!
//! Another pager may die meanwhile, for which something here waits. So who waits asks the root pager who is dead ([`wait`]), and has
//! nobody wait for that one, either. What cannot be completed without it is left: all stages begin anew, for both.

use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use app_pager::home::cluster_of;
use app_pager::letter::LETTERS;
use app_pager::page::{self, perform};
use app_pager::pool::Owner;
use app_pager::protocols::effect::Me;
use app_pager::protocols::entry::{Entry, State as EntryState};
use app_pager::protocols::lead::{Goal, Lead};
use app_pager::protocols::nodes;
use app_pager::protocols::recovery::{Reclaim, ReclaimEffect};
use app_pager::release::{entry_frame, master, own_frame, walk};
use app_pager::roll::Roll;
use app_pager::seat::MANY_WORDS;
use core::mem::offset_of;
use skerry_abi::Error;
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::layout::USER_BITS;
use skerry_ipc::pager::TaskEnd;
use skerry_ipc::root::{Stage, Step};
use skerry_rt::ipc::pause;
use skerry_rt::println;
use skerry_rt::spin::TicketLock;
use skerry_rt::start::{AppCpu, AppStart};

use super::lead::{Desk, Pause};
use super::memory::Physical;
use super::moves::Known;
use super::place::{Place, entry_of};
use super::state::{Context, MAX_TASKS, WHOLE_TASK, board_at, book_at};
use super::stock::Stock;
use super::{dead, grace, life, office, root_server, step, task};

/// How long it waits between two looks: 16 microseconds.
const PAUSE_TICKS: u64 = 1000;
/// Threads that somebody has in hand which it remembers of a task.
const HELD: usize = 4;
/// Their slots and words.
type Held = [Option<(usize, u64)>; HELD];

/// Waits for deaths for ever.
pub(super) fn work(context: Context) -> ! {
    let mut done = 0;
    grace::leave(context.rank);
    loop {
        match root_server().await_death(context.cluster, done) {
            Ok((serial, word)) => {
                if let Some(step) = Step::from_word(word) {
                    perform_stage(&context, step);
                }
                done = serial;
            }
            Err(_) => pause(PAUSE_TICKS),
        }
    }
}

fn perform_stage(context: &Context, step: Step) {
    step::reach(context, || app_pager::step::Step::stage(step.stage));
    match step.stage {
        Stage::Forget => forget(context, step.cluster),
        Stage::Doom => doom(context),
        Stage::Settle => settle(context, step.cluster),
        // Whoever has not seen the marks is through with what it was about.
        Stage::Quiet => period(context),
        Stage::End => end(context, step.cluster),
        Stage::Mend => mend(context, step),
        Stage::Reclaim => reclaim(context, step),
        Stage::Welcome => welcome(context, step.cluster),
    }
}

/// The tasks that are known here and not over.
fn tasks(context: &Context) -> impl Iterator<Item = Known> {
    let mut known = [(0, 0); MAX_TASKS];
    {
        let state = context.state();
        let living = state.tasks.iter().filter(|task| task.id != 0 && task.retired == 0);
        known.iter_mut().zip(living).for_each(|(known, task)| *known = (task.id, task.board));
    }
    let view = |(id, board): (u32, u64)| Some(Known { id, board, view: board_at(board).ok()? });
    known.into_iter().filter(|&(id, _)| id != 0).filter_map(view)
}

fn is_home(context: &Context, id: u32) -> bool {
    cluster_of(id, context.boot.cluster_count) == context.cluster
}

/// Looks at something that belongs to tasks, which stays meanwhile.
fn looking<R>(context: &Context, look: impl FnOnce() -> R) -> R {
    grace::enter(context.rank);
    let result = look();
    grace::leave(context.rank);
    result
}

/// Nobody here asks the dead pager for anything any more, waits for it, or does something for it.
fn forget(context: &Context, cluster: u16) {
    ANOTHER.store(false, SeqCst);
    looking(context, || let_go(context, cluster));
    // Once for what was under way, and once for letters that came meanwhile.
    period(context);
    period(context);
    looking(context, || {
        let mut held = HELD_THEN.lock();
        held.fill((0, [None; HELD]));
        for (task, held) in tasks(context).filter(|task| is_home(context, task.id)).zip(held.iter_mut()) {
            *held = (task.id, in_hand(&task.view.roll()));
        }
    });
}

/// From now on; what is under way is another matter.
fn let_go(context: &Context, cluster: u16) {
    dead::set(context, cluster, true);
    context.forget_pager(cluster);
    for task in tasks(context) {
        let roll = task.view.roll();
        let home = cluster_of(task.id, context.boot.cluster_count);
        if home == cluster || roll.depends_on(cluster) || dead::is_lost(context, task.board) {
            lose(context, task, "it is at home, or has threads or its master there");
        }
    }
    office::close(context, cluster);
}

/// Another pager has died since the first stage: what needs it is left as it is, and all stages begin anew.
static ANOTHER: AtomicBool = AtomicBool::new(false);

/// Waits for a moment. If another pager has died, that is let go of.
fn wait(context: &Context) {
    let mut first = 0;
    while let Ok(cluster) = root_server().dead(first)
        && cluster != u16::MAX
    {
        if !dead::is_dead(cluster) {
            ANOTHER.store(true, SeqCst);
            let_go(context, cluster);
        }
        first = cluster + 1;
    }
    pause(PAUSE_TICKS);
}

/// Waits until all threads of this pager but the caller, who looks at nothing, have waited for a message.
fn period(context: &Context) {
    let ticket = grace::retire(context);
    while !grace::has_passed(context, ticket) {
        looking(context, || wait(context));
    }
}

/// Threads of tasks at home here that somebody had in hand at the end of the first stage, by task. In the next one all who live let go of
/// what they had then, on all nodes.
static HELD_THEN: TicketLock<[(u32, Held); MAX_TASKS]> = TicketLock::new([(0, [None; HELD]); MAX_TASKS]);

/// Also the tasks end that have memory of the dead one's pool.
fn doom(context: &Context) {
    looking(context, || {
        for task in tasks(context) {
            let roll = task.view.roll();
            if !roll.is_lost() && has_lost_frames(context, task) {
                lose(context, task, "it has frames there");
            }
        }
    });
    // Who lives lets go of a thread before it waits, here and, when this stage is over, everywhere.
    period(context);
}

/// Also those end that have a thread of which nobody who lives has let go; and somebody has to see to the end of each.
fn settle(context: &Context, cluster: u16) {
    looking(context, || {
        let held = *HELD_THEN.lock();
        for task in tasks(context) {
            let roll = task.view.roll();
            let before = held.iter().find(|(id, _)| *id == task.id).map_or([None; HELD], |(_, held)| *held);
            let still = in_hand(&roll);
            if before.iter().flatten().any(|word| still.contains(&Some(*word))) {
                lose(context, task, "one of its threads was in the hand of that pager");
            }
            if cluster_of(task.id, context.boot.cluster_count) == cluster {
                let adopted = match adopter(context) {
                    own if own == context.cluster => context.state().lives.adopt(task.id, task.board),
                    other => context.peer(other).and_then(|peer| peer.orphan(task.id, task.board)),
                };
                life::complain(context, task.id, "nobody sees to its end", adopted);
            }
        }
    });
}

/// A task ends with the dead pager.
fn lose(context: &Context, task: Known, why: &str) {
    let roll = task.view.roll();
    if !roll.is_lost() {
        roll.lose();
        println!(
            "task {} ends with an app pager that crashed, says cluster {}: {why}",
            task.id, context.cluster
        );
    }
}

/// Who takes the tasks upon itself whose home is dead.
fn adopter(context: &Context) -> u16 {
    let clusters = 0..context.boot.cluster_count as u16;
    clusters.into_iter().find(|&cluster| !dead::is_dead(cluster)).unwrap_or(context.cluster)
}

fn in_hand(roll: &Roll<'_>) -> Held {
    let (mut found, mut next) = ([None; HELD], 0);
    for found in &mut found {
        *found = roll.held(next);
        next = found.map_or(usize::MAX >> 1, |(slot, _)| slot + 1);
    }
    found
}

/// Whether a task has something here, or at its home if that is here, in the pool of a dead pager.
fn has_lost_frames(context: &Context, task: Known) -> bool {
    let lost = |frame: u64| frame != 0 && dead::is_lost(context, frame);
    let board = &task.view;
    let w = context.seats().words();
    let mut found = is_home(context, task.id) && lost(board.roll().start());
    let spaces = context.state().task(task.id).map(|task| task.spaces);
    for book in spaces.iter().flatten().map(|space| space.book).filter(|&book| book != 0) {
        let Ok(view) = book_at(book) else { continue };
        found |= lost(book) || (0..board.regions()).filter_map(|index| view.table(index)).any(lost);
        let table = |index, _: &_| view.table(index).map(|table| (table, 1));
        found |= any_frame(task, table, own_frame, lost);
    }
    if is_home(context, task.id) {
        found |=
            (0..board.regions()).filter_map(|index| board.region(index)).any(|region| lost(region.table));
        found |= any_frame(task, |_, region| master(region, w), entry_frame, lost);
    }
    found
}

fn any_frame(
    task: Known,
    table: impl Fn(usize, &app_pager::board::Region) -> Option<(u64, usize)>,
    frame: impl Fn(&app_pager::board::Region, u64) -> u64,
    wanted: impl Fn(u64) -> bool,
) -> bool {
    let (mut cursor, mut found) = (0, false);
    loop {
        let words = |address, count| Physical.words_at(address, count);
        cursor = walk(&task.view, cursor, &table, words, &frame, |_, _, frame| found |= wanted(frame));
        if cursor == 0 || found {
            return found;
        }
    }
}

/// The tasks that end are over, and all that they had has been given back.
fn end(context: &Context, cluster: u16) {
    let mut index = 0;
    loop {
        let next = context.state().lives.next_living(index);
        let Some((behind, id, board, over)) = next else { break };
        index = behind;
        if !over
            && let Ok(view) = board_at(board)
            && view.roll().is_lost()
        {
            looking(context, || destroy_everywhere(context, Known { id, board, view }));
            let over = context.state().lives.over(id);
            life::complain(context, id, "it is not over", over);
            life::more_work(context);
        }
    }
    // Those that are over, also for other reasons, may have something of the dead one's.
    while is_giving_back(context) {
        looking(context, || wait(context));
        if ANOTHER.load(SeqCst) {
            return;
        }
    }
    // Who waits for the end of a task that was at home there.
    loop {
        let waiting = {
            let state = context.state();
            let of_dead = |id: u32| cluster_of(id, context.boot.cluster_count) == cluster;
            let waits = |joiner: &&super::state::Joiner| {
                !joiner.caller.is_nil() && joiner.number == WHOLE_TASK && of_dead(joiner.task)
            };
            state.joiners.iter().find(waits).map(|joiner| joiner.task)
        };
        let Some(id) = waiting else { return };
        task::wake_joiners(context, id, WHOLE_TASK, TaskEnd::PagerDied);
    }
}

fn is_giving_back(context: &Context) -> bool {
    let state = context.state();
    let mut index = 0;
    while let Some((behind, _, board, over)) = state.lives.next_living(index) {
        if over || board_at(board).is_ok_and(|board| board.roll().is_lost()) {
            return true;
        }
        index = behind;
    }
    false
}

fn destroy_everywhere(context: &Context, task: Known) {
    let roll = task.view.roll();
    for cluster in (0..context.boot.cluster_count as u16).filter(|&cluster| roll.is_known(cluster)) {
        let done = match cluster == context.cluster {
            _ if dead::is_dead(cluster) => continue,
            true => task::destroy_spaces(context, task.id),
            false => context.peer(cluster).and_then(|peer| peer.space_destroy(task.id)),
        };
        if done != Err(Error::Refused) {
            life::complain(context, task.id, "its spaces cannot be destroyed", done);
        }
    }
}

/// Entries of tasks at home here that the dead pager led are put back as they were, and it shares nothing any more.
fn mend(context: &Context, step: Step) {
    let node = context.boot.clusters().get(usize::from(step.cluster)).map_or(0, |cluster| cluster.node);
    let seat = context.seats().of(step.cluster, node);
    let dead = Me { node: seat, incarnation: step.incarnation };
    looking(context, || {
        for task in tasks(context).filter(|task| is_home(context, task.id)) {
            if task.view.roll().is_known(step.cluster) {
                let done = match context.seats().words() {
                    1 => mend_task::<1>(context, task, dead),
                    _ => mend_task::<MANY_WORDS>(context, task, dead),
                };
                if !done {
                    return;
                }
            }
        }
    });
}

/// Returns whether it is done: it is not if another pager has died.
fn mend_task<const W: usize>(context: &Context, task: Known, dead: Me) -> bool {
    let (word, bit) = nodes::place(dead.node);
    let (mut cursor, mut done) = (0, true);
    loop {
        cursor = walk(
            &task.view,
            cursor,
            |_, region| master(region, W),
            |table, count| Physical.words_at(table, count),
            // Also those without a frame: their masks count.
            |_, _| 1,
            |region, number, _| {
                let at = region.table + number * 8 * page::words(W) as u64;
                let words = Physical.words_at(at, page::words(W));
                let entry = Entry(words[0].load(SeqCst));
                let led = entry.state() == EntryState::Busy;
                let by_it = led && (entry.leader(), entry.incarnation()) == (dead.node, dead.incarnation);
                // The turn of those that another dead one led comes.
                let by_other = led && !by_it && dead::is_dead(context.seats().cluster(entry.leader()));
                let shared = words[1 + usize::from(word)].load(SeqCst) & bit != 0;
                if done && (by_it || shared && !by_other) {
                    done = mend_page::<W>(context, task.id, region.base + number * PAGE_SIZE, dead);
                }
            },
        );
        if cursor == 0 || !done {
            return done;
        }
    }
}

fn mend_page<const W: usize>(context: &Context, task: u32, address: u64, dead: Me) -> bool {
    let mut lead = Lead::<1, W>::of(context.me(context.node), Goal::Recover(dead), 1);
    let (mut place, mut owner, mut stock) = (Place::NONE, Owner::NONE, Stock::new());
    let (mut begun, mut answered) = (false, false);
    let addresses = [address];
    loop {
        let mut desk = Desk {
            context,
            place: &mut place,
            owner: &mut owner,
            stock: &mut stock,
            task,
            addresses: &addresses,
            number: LETTERS,
            begun: &mut begun,
            one_region: true,
        };
        match desk.go_on(&mut lead, answered) {
            Pause::Done | Pause::Over => return true,
            Pause::Turn => answered = false,
            Pause::Answers | Pause::Answer => {
                while !desk.is_answered() {
                    // (Who was asked and is dead now has been taken out.)
                    wait(context);
                }
                answered = true;
            }
        }
        wait(context);
        // Whose turn it is may be dead.
        if ANOTHER.load(SeqCst) && !answered {
            return false;
        }
    }
}

/// Frames that the dead pager had in hand are free, and nobody here has one of its frames.
fn reclaim(context: &Context, step: Step) {
    let node = context.boot.clusters().get(usize::from(step.cluster)).map_or(0, |cluster| cluster.node);
    let dead = Me { node: context.seats().of(step.cluster, node), incarnation: step.incarnation };
    looking(context, || {
        let Some(pools) = context.pools() else { return };
        // What came back is not in hand, though it is still taken and its record is as it was.
        pools.take_back(&Physical);
        pools.each_taken(&Physical, |frame, record| {
            let mut machine = Reclaim::new(dead, frame);
            let mut answer = 0;
            loop {
                let effect = machine.step(answer);
                step::reach(context, || (&effect).into());
                answer = match effect {
                    ReclaimEffect::Record(access) => perform(record, access),
                    ReclaimEffect::Look(page) => entry_at(context, page),
                    ReclaimEffect::Free => {
                        context.give_back(frame, PAGE_SIZE);
                        break;
                    }
                    ReclaimEffect::Leave => break,
                };
            }
        });
    });
    // Leaders of tasks that have ended let go of what they have, and faults that waited for the dead one are tried again.
    for _ in 0..3 {
        context.wake_node();
        period(context);
    }
}

/// The entry of a page as records name it; empty if there is none.
fn entry_at(context: &Context, page: u64) -> u64 {
    const BITS: u32 = USER_BITS - PAGE_BITS;
    let (task, address) = ((page >> BITS) as u32, (page & ((1 << BITS) - 1)) << PAGE_BITS);
    entry_of(context, task, address).map_or(0, |entry| entry.load(SeqCst))
}

/// Its next life has begun.
fn welcome(context: &Context, cluster: u16) {
    dead::set(context, cluster, false);
    // Threads that go there find it by their task's start page.
    looking(context, || {
        for task in tasks(context).filter(|task| is_home(context, task.id)) {
            let start = task.view.roll().start();
            for (number, cpu) in (0u16..).zip(context.boot.cpus()) {
                if start != 0
                    && cpu.cluster == cluster
                    && let Ok(pager) = context.pager_of(number)
                {
                    let entry = offset_of!(AppStart, cpus) + usize::from(number) * size_of::<AppCpu>();
                    let word = start + (entry + offset_of!(AppCpu, pager)) as u64;
                    Physical.words_at(word, 1)[0].store(pager.0, SeqCst);
                }
            }
        }
    });
}
