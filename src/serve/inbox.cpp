#include "serve/inbox.h"

#include <iterator>
#include <utility>

namespace farskip::serve {
namespace {

template <class T>
void append(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::move_iterator(from.begin()), std::move_iterator(from.end()));
}

}  // namespace

void Inbox::notify(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

void Inbox::add(size_t sequence, News news) {
  const std::lock_guard lock(mutex_);
  News& kept = news_[sequence];
  append(kept.prompt, news.prompt);
  append(kept.tokens, news.tokens);
  kept.text += news.text;
  const bool worth_it = every_token_ || news.outcome;
  if (news.outcome) kept.outcome = std::move(news.outcome);
  // Under the lock: once notify({}) is back, the old one is not called any more.
  if (worth_it && !std::exchange(told_, true) && wake_) wake_();
}

std::vector<News> Inbox::take() {
  const std::lock_guard lock(mutex_);
  told_ = false;
  std::vector<News> fresh(news_.size());
  fresh.swap(news_);
  return fresh;
}

}  // namespace farskip::serve
