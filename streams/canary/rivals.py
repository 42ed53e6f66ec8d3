"""Ends canaries that were begun while another one was, so that none of them runs later, unasked."""

from __future__ import annotations

from streams.jobs.context import JobContext, note
from streams.jobs.job import Jobs, Wish, wish_message


async def end_others(context: JobContext, jobs: Jobs) -> None:
    """End all but the first one of ``jobs``; whoever sees them may do it.

    Raises:
        UnavailableError, AccessError.
    """
    for job in jobs.canaries()[1:]:
        wish = Wish.CANCEL if job.replay_topic_id else Wish.DROP  # it has no label yet
        await note(context, wish_message(context.topics, job.id, wish))
        jobs.wishes[job.id] = wish
